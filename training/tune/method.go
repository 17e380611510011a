//go:build torch

package tune

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/checkpoint"
	"likeness/training/protocol"
)

// Method is one of the protocol's, with how it learns.
type Method struct {
	protocol.Method
	patience int // measurements of the held-out loss without a gain that end the run early; 0: it takes all steps
	start    func(ctx context.Context, b *Base, cfg Config, photos []Photo) (*learner, error)
}

// Methods are all there are, in the protocol's order.
var Methods = []Method{quick, lora, textualInversion, extended, perfusion, customDiffusion, dreamBooth, svdiff}

// find returns a method by its name, with what suits the model.
func (b *Base) find(name string) (Method, error) {
	for i, m := range Methods {
		if m.Name == name {
			m.Method = b.methods[i]
			return m, nil
		}
	}
	return Method{}, fmt.Errorf("method %q: known are %s", name, strings.Join(protocol.Names(protocol.Methods), ", "))
}

// Defaults are what zero fields of a configuration take.
func (m Method) Defaults() Config {
	return Config{Steps: m.Steps, LR: m.LearningRate, Batch: m.Batch, Rank: m.Rank, Vectors: m.Vectors}
}

// complete fills in the method's defaults.
func (m Method) complete(c Config) Config {
	d := m.Defaults()
	c.Steps, c.LR, c.Batch = cmp.Or(c.Steps, d.Steps), cmp.Or(c.LR, d.LR), cmp.Or(c.Batch, d.Batch)
	c.Accumulate, c.Rank, c.Vectors = cmp.Or(c.Accumulate, 1), cmp.Or(c.Rank, d.Rank), cmp.Or(c.Vectors, d.Vectors)
	c.Init = cmp.Or(c.Init, c.Class)
	if len(c.Captions) == 0 {
		c.Captions = Captions["portrait"]
	}
	return c
}

// quick is the product's own: of what the encoder predicts, the coefficients over its basis move a little. The basis was learned of many persons, so
// that what one photo teaches is of the person and less of the photo. The words stay, which spares every step the text encoder. With a rank it
// relaxes.
var quick = Method{
	Method:   protocol.Quick,
	patience: 1,
	start: func(ctx context.Context, b *Base, cfg Config, photos []Photo) (*learner, error) {
		predicted, err := b.predict(ctx, cfg, photos)
		if err != nil {
			return nil, err
		}
		l := &learner{vectors: predicted.WordEmbeddings.Data, gain: 1, rate: cfg.LR, pull: 1}
		if cfg.Rank > 0 {
			return l, l.relax(b, predicted, cfg)
		}
		l.spans, l.coefficients = b.encoder, predicted.Coefficients
		return l, nil
	},
}

// relax has quick move the words and, in place of the coefficients, the rows of every change: the predicted ones and, beside them, new ones of a rank
// (rank-relaxed tuning of HyperDreamBooth, Ruiz et al. 2023, section 4.3, with nothing baked in: rank r₁ + r₂ holds both exactly).
func (l *learner) relax(b *Base, predicted *concept.Concept, cfg Config) error {
	const slower, closer = 250, 10 // than coefficients, which are few and far from zero
	l.rate, l.wordRate, l.pull = l.rate/slower, l.rate/slower, l.pull*closer
	packed, err := b.encoder.Expand(predicted)
	if err != nil {
		return err
	}
	layers, err := exchange.Unpack(b.encoder.Layout(), packed)
	if err != nil {
		return err
	}
	for path, fresh := range freshLayers(b.encoder.Layout().Targets(), cfg.Rank, cfg.Seed) {
		layers[path] = beside(layers[path], fresh)
	}
	l.layers = concept.LoRA{checkpoint.UNet: layers}
	return nil
}

// lora learns low-rank changes of layers (Hu et al. 2022), with alpha as kohya's and diffusers' trainers have it. Its concepts act on the
// negative prompt too, as published ones do.
var lora = Method{
	Method: protocol.LoRA,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		if cfg.Rank < 1 {
			return nil, fmt.Errorf("rank %d: must be at least 1", cfg.Rank)
		}
		targets, err := b.targets(cfg.Targets)
		if err != nil {
			return nil, err
		}
		layers := concept.LoRA{checkpoint.UNet: freshLayers(targets, cfg.Rank, cfg.Seed)}
		if cfg.TextEncoder {
			if targets, err = b.textTargets(); err != nil {
				return nil, err
			}
			layers[checkpoint.TextEncoder] = freshLayers(targets, cfg.Rank, ^cfg.Seed)
		}
		l := &learner{layers: layers, gain: 1, rate: cfg.LR, wordRate: cfg.LR, decay: 0.01, everywhere: true}
		if cfg.Alpha > 0 {
			l.gain = cfg.Alpha / float64(cfg.Rank)
		}
		if cfg.Vectors > 0 {
			l.vectors, err = b.wordsOf(cfg)
		}
		return l, err
	},
}

// textualInversion learns a word alone (Gal et al. 2022). No other word moves, since none is trained.
var textualInversion = Method{
	Method: protocol.TextualInversion,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		nouns, longest, err := b.nouns(cfg.Word, cfg.Class, cfg.Vectors)
		if err != nil {
			return nil, err
		}
		vectors, err := b.wordsOf(cfg)
		return &learner{vectors: vectors, wordRate: cfg.LR, nouns: nouns, longest: longest}, err
	},
}

//go:build torch

package tune

import (
	"context"
	"fmt"
	"image"
	"image/draw"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"likeness/encoder/concept"
	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/unet"
	"likeness/training/base"
	"likeness/training/protocol"
)

// customDiffusion learns keys and values of cross-attention, and a word (Kumari et al. 2023).
var customDiffusion = Method{
	Method: protocol.CustomDiffusion,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		weights, err := b.weightsOf(checkpoint.UNet, func(name string, _ []int) bool {
			return strings.HasSuffix(name, ".attn2.to_k.weight") || strings.HasSuffix(name, ".attn2.to_v.weight")
		})
		if err != nil {
			return nil, err
		}
		vectors, err := b.wordsOf(cfg)
		return &learner{vectors: vectors, weights: weights, rank: cfg.Rank, weightRate: cfg.LR, wordRate: cfg.LR * 10, decay: 0.01, prior: priorPictures}, err
	},
}

// dreamBooth learns all weights of the UNet (Ruiz et al. 2023), and of the text encoder, where it is asked to, all but the words. The subject
// is a rare word before its class noun: two vectors, the first of a random direction, the second the noun itself; neither is learned.
var dreamBooth = Method{
	Method: protocol.DreamBooth,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		weights, err := b.weightsOf(checkpoint.UNet, func(string, []int) bool { return true })
		if err != nil {
			return nil, err
		}
		if cfg.TextEncoder {
			own, err := b.weightsOf(checkpoint.TextEncoder, func(name string, _ []int) bool { return name != tokenTable && strings.HasPrefix(name, "text_model.") })
			if err != nil {
				return nil, err
			}
			maps.Copy(weights, own)
		}
		nouns, _, err := b.nouns(cfg.Word, cfg.Class, 2)
		if err != nil {
			return nil, err
		}
		return &learner{vectors: rareWord(nouns, cfg.Seed), weights: weights, rank: cfg.Rank, weightRate: cfg.LR, decay: 0.01, prior: priorPictures}, nil
	},
}

// priorPictures is the number of pictures of the class that the model draws itself, to keep what it knows of the class (DreamBooth's prior
// preservation, with weight one).
const priorPictures = 8

// rareWord are the vectors of a word that the model has never seen, of the noun's length, and of the noun itself.
func rareWord(nouns []float32, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 0x72617265))
	width := len(nouns) / 2
	vectors := make([]float32, len(nouns))
	var noun, word float64
	for i := range width {
		vectors[i] = float32(r.NormFloat64())
		noun, word = noun+math.Pow(float64(nouns[i]), 2), word+math.Pow(float64(vectors[i]), 2)
	}
	for i := range width {
		vectors[i] = vectors[i]*float32(math.Sqrt(noun/word)) - nouns[i]
	}
	return vectors
}

// weightsOf are those of a component's frozen weights that match, where they lie; their names begin with the component's.
func (b *Base) weightsOf(component string, match func(name string, dims []int) bool) (map[string]op.Array, error) {
	weights := map[string]op.Array{}
	for _, p := range b.UNetAndText {
		views, err := p.Views()
		if err != nil {
			return nil, err
		}
		for name, view := range views {
			if own, ok := strings.CutPrefix(name, component+"/"); ok && match(own, view.Dims) {
				weights[name] = view
			}
		}
	}
	return weights, nil
}

// extracted are the weights' changes as low-rank changes of layers, and which part of the change they do not hold: what is above the
// rank, and all of what is no linear layer or 1×1 convolution of a block. It tells how far it is.
func (l *learner) extracted(engine *torch.Engine, numbers map[string]op.Array, tell func(string)) (layers concept.LoRA, lost float64, err error) {
	layers = concept.LoRA{}
	var all, left float64
	done := 0
	add := func(name string, dims []int, square float64, nearest func() (concept.Delta, float64, error)) error {
		done++
		tell(fmt.Sprintf("keeping the change of weight %d of %d", done, len(l.weights)+len(l.spectra)))
		all += square
		component, path, ok := layerOf(name, dims)
		if square == 0 || !ok {
			left += square
			return nil
		}
		d, rest, err := nearest()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if layers[component] == nil {
			layers[component] = map[string]concept.Delta{}
		}
		layers[component][path], left = d, left+rest
		return nil
	}
	for name, first := range l.weights {
		change, square := slices.Clone(numbers[name].F32), 0.0
		for i := range change {
			change[i] -= first.F32[i]
			square += float64(change[i]) * float64(change[i])
		}
		if err := add(name, first.Dims, square, func() (concept.Delta, float64, error) {
			return extract(change, first.Dims[0], first.Dims[1], l.rank)
		}); err != nil {
			return nil, 0, err
		}
	}
	for name, s := range l.spectra {
		u, values, v, err := s.read(engine)
		if err != nil {
			return nil, 0, err
		}
		changes, square := changesOf(values, numbers[shiftsPart+"/"+name].F32), 0.0
		for _, x := range changes {
			square += x * x
		}
		if err := add(checkpoint.UNet+"/"+name, s.dims, square, func() (concept.Delta, float64, error) {
			d, rest := strongest(u, changes, v, l.rank)
			return d, rest, nil
		}); err != nil {
			return nil, 0, err
		}
	}
	if all == 0 {
		return layers, 0, nil
	}
	return layers, math.Sqrt(left / all), nil
}

// layerOf is the layer of a weight that a concept can hold a change of: a linear layer, or a 1×1 convolution, of a block of the UNet or a layer
// of the text encoder.
func layerOf(name string, dims []int) (component, path string, ok bool) {
	component, path, _ = strings.Cut(name, "/")
	path, ok = strings.CutSuffix(path, ".weight")
	flat := len(dims) == 2 || len(dims) == 4 && dims[2] == 1 && dims[3] == 1
	block := map[string]string{checkpoint.UNet: "_block", checkpoint.TextEncoder: ".encoder.layers."}[component]
	return component, path, ok && flat && strings.Contains(path, block)
}

// imagine draws pictures of the class, which are learned beside the photos.
func (t *task) imagine() error {
	n := t.learner.prior
	if n == 0 {
		return nil
	}
	c, err := encode(t.base.tokenizer, t.cfg.Captions[0], t.cfg.Word, t.cfg.Class, 0)
	if err != nil {
		return err
	}
	c.slots = make([]float32, len(c.ids)*t.vectors())
	if c.states, err = t.statesOf(c); err != nil {
		return err
	}
	t.class = c
	s := base.Sampler{Architecture: t.base.Architecture, Engine: t.base.engine, VAE: t.base.VAE, Steps: 12, GuidanceScale: 3}
	text, err := s.Text(t.base.tokenizer, slices.Repeat(c.ids, n), nil, t.base.UNetAndText...)
	if err != nil {
		return err
	}
	plain := unet.New(t.base.UNet, nil)
	pictures, err := s.Pictures(text, func(inputs map[string]op.Array) (op.Array, error) {
		out, err := t.base.engine.Run(func(s op.Scope) map[string]op.Tensor { return plain(s.Component(checkpoint.UNet)) }, inputs, t.base.UNetAndText...)
		return out["noise_pred"], err
	})
	if err != nil {
		return fmt.Errorf("pictures of the class: %w", err)
	}
	seen := make([]view, n)
	for i, p := range pictures {
		img := image.NewRGBA(p.Bounds())
		draw.Draw(img, img.Rect, p, p.Bounds().Min, draw.Src)
		seen[i].planes = make([]float32, 3*img.Rect.Dx()*img.Rect.Dy())
		pixels.Planes(seen[i].planes, img)
	}
	t.priors, err = t.examples(seen)
	return err
}

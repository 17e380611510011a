//go:build torch

package pretrain

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/training/base"
	"likeness/training/latents"
	"likeness/training/loop"
)

// Open prepares the training of an encoder on the base model in a diffusers folder; configure chooses the encoder's architecture for the
// width of the text encoder.
func Open(engine *torch.Engine, dir string, configure func(textWidth int) encoder.Config) (*Pretraining, error) {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	frozen, err := base.OpenFrozen(engine, folder)
	if err != nil {
		return nil, err
	}
	p := &Pretraining{Architecture: frozen.Architecture, Frozen: frozen.UNetAndText, VAE: frozen.VAE,
		Encoder: configure(frozen.Text.HiddenSize), Strength: 1, Pool: latents.Default(frozen.Architecture.VAE, 2)}
	if p.Tokenizer, err = tokenizer.Open(filepath.Join(dir, "tokenizer")); err != nil {
		return nil, err
	}
	return p, p.setLayout()
}

func (p *Pretraining) setLayout() (err error) {
	p.Layout, err = trace.Layout(unet.New(p.UNet, nil), p.Encoder.Rank, p.Encoder.IsTarget)
	return err
}

// furtherPersons is the first person that an encoder learns on from: those before are enough for days of training.
const furtherPersons = 1 << 18

// StartFrom makes the training go on from the encoder of a model folder, with its architecture.
func (p *Pretraining) StartFrom(dir string) error {
	c, err := checkpoint.OpenComponent(filepath.Join(dir, component))
	if err != nil {
		return err
	}
	defer c.Close()
	if p.Encoder, err = encoder.ParseConfig(c.Config()); err != nil {
		return fmt.Errorf("%s: %w", c.Path(), err)
	}
	if p.Encoder.TextWidth != p.Text.HiddenSize {
		return fmt.Errorf("%s: its words have %d numbers, the base model's %d: it belongs to another one", c.Path(), p.Encoder.TextWidth, p.Text.HiddenSize)
	}
	if err := p.setLayout(); err != nil {
		return err
	}
	if err := p.complete(c); err != nil {
		return err
	}
	p.further, p.Pool.First = true, furtherPersons
	p.First, err = base.Weights(c, component+"/")
	return err
}

// complete holds an encoder against what its architecture needs on this base model, all weights at once.
func (p *Pretraining) complete(c *checkpoint.Component) error {
	weights, err := trace.Weights(p.trained())
	if err != nil {
		return err
	}
	var manifest []checkpoint.Weight
	for _, w := range weights {
		if name, ok := exported(w.Name); ok {
			manifest = append(manifest, checkpoint.Weight{Name: name, Shape: w.Dims})
		}
	}
	return c.Check(manifest)
}

// exported is the name of a trained weight in the encoder's folder; ok is false for what is only trained with.
func exported(trained string) (name string, ok bool) {
	name = strings.TrimPrefix(trained, component+"/")
	return name, !strings.HasPrefix(name, traitsHead)
}

// strengthened is a weight of the exported encoder. Word embeddings and offsets are linear in those of the last layers.
func (p *Pretraining) strengthened(name string, a op.Array) op.Array {
	if !strings.HasPrefix(name, "word_head.") && !strings.HasSuffix(name, ".basis") {
		return a
	}
	scaled := slices.Clone(a.F32)
	for i := range scaled {
		scaled[i] *= float32(p.Strength)
	}
	return op.Floats(scaled, a.Dims...)
}

// Export writes the encoder of a run into a model folder, in half precision. What it says of a person is multiplied with [Pretraining.Strength].
func (p *Pretraining) Export(run, dir string) error {
	average, err := loop.Average(run)
	if err != nil {
		return err
	}
	weights := map[string]op.Array{}
	for name, a := range average {
		if name, ok := exported(name); ok {
			weights[name] = p.strengthened(name, a)
		}
	}
	if err := checkpoint.WriteComponent(filepath.Join(dir, "encoder"), p.Encoder, base.Half(weights), nil); err != nil {
		return err
	}
	return base.WriteIndex(dir, true)
}

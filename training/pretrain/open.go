//go:build torch

package pretrain

import (
	"path/filepath"
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
		Encoder: configure(frozen.Text.HiddenSize), Pool: latents.Default(frozen.Architecture.VAE, 2)}
	if p.Tokenizer, err = tokenizer.Open(filepath.Join(dir, "tokenizer")); err != nil {
		return nil, err
	}
	p.Layout, err = trace.Layout(unet.New(p.UNet, nil), p.Encoder.Rank, p.Encoder.IsTarget)
	return p, err
}

// Export writes the encoder of a run into a model folder, in half precision.
func (p *Pretraining) Export(run, dir string) error {
	average, err := loop.Average(run)
	if err != nil {
		return err
	}
	weights := map[string]op.Array{}
	for name, a := range average {
		if name = strings.TrimPrefix(name, component+"/"); !strings.HasPrefix(name, traitsHead) {
			weights[name] = a
		}
	}
	if err := checkpoint.WriteComponent(filepath.Join(dir, "encoder"), p.Encoder, base.Half(weights), nil); err != nil {
		return err
	}
	return base.WriteIndex(dir, true)
}

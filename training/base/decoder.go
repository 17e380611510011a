//go:build torch

package base

import (
	"context"
	"fmt"
	"image"
	"maps"
	"math/rand/v2"
	"strings"

	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/vae"
	"likeness/training/loop"
	"likeness/training/portraits"
)

// RefineDecoder trains the decoder of the VAE in a component folder further and writes it back. The encoder stays as it is, and so do
// latents, and what a denoiser has learned of them.
func RefineDecoder(ctx context.Context, engine *torch.Engine, dir string, cfg loop.Config) error {
	c, err := checkpoint.OpenComponent(dir)
	if err != nil {
		return err
	}
	defer c.Close()
	arch, err := vae.ParseConfig(c.Config())
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	all, err := Weights(c, "")
	if err != nil {
		return err
	}
	decoder := map[string]op.Array{}
	for name, a := range all {
		if strings.HasPrefix(name, "decoder.") || strings.HasPrefix(name, "post_quant_conv.") {
			decoder[name] = a
			delete(all, name)
		}
	}
	frozen, err := engine.NewParams(all, false)
	if err != nil {
		return err
	}
	defer frozen.Free()
	renderer := portraits.NewRenderer()
	err = loop.Train(ctx, engine, cfg, loop.Task{
		Model:  vaeLoss(arch),
		Init:   func() (map[string]op.Array, error) { return decoder, nil },
		Frozen: []*torch.Params{frozen},
		Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
			return vaeBatch(renderer, arch, cfg.Batch, r, true), nil
		},
		Sample: func(average *torch.Params) (image.Image, error) {
			return reconstructions(engine, arch, average, frozen)
		},
	})
	if err != nil {
		return err
	}
	average, err := loop.Average(cfg.Dir)
	if err != nil {
		return err
	}
	maps.Copy(all, average)
	return writeComponent(dir, arch, "AutoencoderKL", all)
}

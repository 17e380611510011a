//go:build torch

package base

import (
	"context"
	"image"
	"math/rand/v2"

	"likeness/models/backend/torch"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/training/latents"
	"likeness/training/loop"
	"likeness/training/portraits"
)

// emptyCaptions is the share of samples that learn the unconditional prediction, for classifier-free guidance.
const emptyCaptions = 0.1

// Diffusion trains the text encoder and the UNet of an architecture on the latents of a trained VAE.
type Diffusion struct {
	Architecture
	Tokenizer *tokenizer.Tokenizer
	Pool      latents.Config
	VAE       *torch.Params       // weights of the trained VAE
	First     map[string]op.Array // weights to start from, components text_encoder and unet; nil: random ones
	noise     *Noise
	pool      *latents.Pool
}

// Train runs the training in the folder cfg.Dir.
func (d *Diffusion) Train(ctx context.Context, engine *torch.Engine, cfg loop.Config) error {
	d.noise = NewNoise(d.Scheduler)
	d.pool = latents.New(engine, d.VAE, d.Pool)
	if err := d.pool.Fill(ctx); err != nil {
		return err
	}
	model := d.loss()
	return loop.Train(ctx, engine, cfg, loop.Task{
		Model: model,
		Init: func() (map[string]op.Array, error) {
			if d.First != nil {
				return d.First, nil
			}
			return loop.Init(model, 2, ".conv2.weight", ".proj_out.weight", "unet/conv_out.weight")
		},
		Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
			if err := d.pool.Renew(); err != nil {
				return nil, err
			}
			return d.batch(cfg.Batch, r)
		},
		Sample: func(average *torch.Params) (image.Image, error) {
			return d.samples(engine, average)
		},
	})
}

// loss is the weighted mean squared error of the prediction.
func (d *Diffusion) loss() op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		u := d.UNet
		t := NoisyInputs(s, u)
		text := TextStates(s.Component("text_encoder"), d.Text, s.Input("input_ids", op.Int64, -1, d.Text.MaxPositionEmbeddings))
		pred := unet.Forward(s.Component("unet"), u, unet.Inputs{Sample: t.Sample, Timestep: t.Timestep, EncoderHiddenStates: text})
		return map[string]op.Tensor{"loss": t.Loss(pred)}
	}
}

// TextStates encodes ids [B, L] without concepts.
func TextStates(s op.Scope, cfg clip.Config, ids op.Tensor) op.Tensor {
	none := s.Const(make([]float32, cfg.HiddenSize), 1, 1, cfg.HiddenSize)
	return clip.TextForward(s, cfg, ids, none).Last
}

func (d *Diffusion) batch(size int, r *rand.Rand) (map[string]op.Array, error) {
	b := d.noise.Batch(size, d.UNet)
	ids := make([]int64, 0, size*d.Text.MaxPositionEmbeddings)
	for i := range size {
		person := d.pool.Pick(r)
		picture := person.Pictures[r.IntN(len(person.Pictures))]
		caption := ""
		if r.Float64() >= emptyCaptions {
			caption = portraits.Caption(person.Identity, picture.Context, r)
		}
		encoding, err := d.Tokenizer.Encode(caption, nil)
		if err != nil {
			return nil, err
		}
		ids = append(ids, encoding.IDs...)
		b.Add(i, picture.Latent, r)
	}
	inputs := b.Inputs()
	inputs["input_ids"] = op.Ints(ids, size, d.Text.MaxPositionEmbeddings)
	return inputs, nil
}

// samples draws a fixed set of prompts, each with a seed of its own.
func (d *Diffusion) samples(engine *torch.Engine, weights *torch.Params) (image.Image, error) {
	const columns, rows = 8, 4
	r := rand.New(rand.NewPCG(11, 11))
	ids := make([]int64, 0, columns*rows*d.Text.MaxPositionEmbeddings)
	for i := range columns * rows {
		caption := portraits.FullCaption(portraits.Validation.Identity(i), portraits.NewContext(r))
		encoding, err := d.Tokenizer.Encode(caption, nil)
		if err != nil {
			return nil, err
		}
		ids = append(ids, encoding.IDs...)
	}
	s := Sampler{Architecture: d.Architecture, Engine: engine, VAE: d.VAE, Steps: 16, GuidanceScale: 3}
	cond, err := s.Text(d.Tokenizer, ids, nil, weights)
	if err != nil {
		return nil, err
	}
	pictures, err := s.Pictures(cond, func(inputs map[string]op.Array) (op.Array, error) {
		out, err := engine.Run(denoiser(d.UNet), inputs, weights)
		return out["noise_pred"], err
	})
	if err != nil {
		return nil, err
	}
	return pixels.Grid(pictures, columns), nil
}

// denoiser is the UNet without offsets, as a component.
func denoiser(cfg unet.Config) op.Model {
	plain := unet.New(cfg, nil)
	return func(s op.Scope) map[string]op.Tensor { return plain(s.Component("unet")) }
}

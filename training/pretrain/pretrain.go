//go:build torch

// Package pretrain trains the encoder on a frozen base model: what it says of some pictures of a person must help the denoiser to draw
// other pictures of the same person, in other contexts.
package pretrain

import (
	"context"
	"image"
	"math"
	"math/rand/v2"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/training/base"
	"likeness/training/latents"
	"likeness/training/loop"
	"likeness/training/portraits"
)

const (
	word  = "me"
	class = "face"

	// dropout is the share of samples without the word embeddings, and that without offsets: neither may lean on the other alone.
	dropout = 0.1
	// traitWeight is the weight of what the encoder must go on seeing, beside the denoiser's loss.
	traitWeight = 0.05
	// Penalties on the mean squares keep a concept near its class word and its coefficients bounded.
	wordPenalty        = 1e-4
	coefficientPenalty = 1e-5
)

// Pretraining is what the encoder is trained with.
type Pretraining struct {
	base.Architecture
	Encoder   encoder.Config
	Layout    *op.Layout
	Tokenizer *tokenizer.Tokenizer
	Pool      latents.Config
	Frozen    []*torch.Params // components unet and text_encoder
	VAE       *torch.Params
	Strength  float64             // of what the exported encoder says, 1 as it was trained: less shows less of a person and keeps more of a prompt
	SameImage bool                // ablation: the condition is the target picture itself
	First     map[string]op.Array // weights to start from, as [TrainVision] leaves them; others start as they are initialised
	further   bool                // First is a whole encoder: it learns on from persons that are new to it, at all noise levels alike

	noise *base.Noise
	pool  *latents.Pool
}

// Train runs the training in the folder cfg.Dir.
func (p *Pretraining) Train(ctx context.Context, engine *torch.Engine, cfg loop.Config) error {
	p.noise = base.NewNoise(p.Scheduler)
	p.noise.Early = !p.further
	p.pool = latents.New(engine, p.VAE, p.Pool)
	if err := p.pool.Fill(ctx); err != nil {
		return err
	}
	photos := newPhotos()
	return loop.Train(ctx, engine, cfg, loop.Task{
		Model: p.loss(),
		Init: func() (map[string]op.Array, error) {
			weights, err := loop.Init(p.trained(), 3, ".conv2.weight", "/word_head.weight", ".basis", traitsHead+".weight")
			for name := range weights {
				if first, ok := p.First[name]; ok {
					weights[name] = first
				}
			}
			return weights, err
		},
		Frozen: p.Frozen,
		Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
			if err := p.pool.Renew(); err != nil {
				return nil, err
			}
			return p.batch(photos, cfg.Batch, r)
		},
		Sample: func(average *torch.Params) (image.Image, error) { return p.samples(engine, average) },
	})
}

// concept is what the encoder says, with the traits that it sees.
type concept struct{ words, coefficients, traits op.Tensor }

func (p *Pretraining) encode(s op.Scope) (c concept) {
	size := p.Encoder.ImageSize
	summary := encoder.Summary(s, p.Encoder, s.Input("photos", op.Float32, -1, -1, 3, size, size))
	c.words, c.coefficients = encoder.Heads(s, p.Encoder, p.Layout, summary)
	c.traits = readTraits(s, p.Encoder, summary)
	return c
}

// trained has all trained weights. It returns the words [B, num_vectors, width] and packed offsets of persons.
func (p *Pretraining) trained() op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		s = s.Component(component)
		c := p.encode(s)
		return map[string]op.Tensor{"words": c.words, "offsets": encoder.Offsets(s, p.Encoder, p.Layout, c.coefficients), "traits": c.traits}
	}
}

// loss is the denoiser's loss with the encoder's word embeddings and offsets, and their norm penalties.
func (p *Pretraining) loss() op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		length := p.Text.MaxPositionEmbeddings
		t := base.NoisyInputs(s, p.UNet)
		c := p.encode(s.Component(component))

		slots := s.Input("slots", op.Float32, -1, length, p.Encoder.NumVectors) // one where a vector stands
		text := clip.TextForward(s.Component("text_encoder"), p.Text, s.Input("input_ids", op.Int64, -1, length), slots.MatMul(c.words))
		kept := c.coefficients.Mul(s.Input("keep_offsets", op.Float32, -1).Reshape(-1, 1))
		u := s.Component("unet").WithDeltas(encoder.Deltas(s.Component(component), p.Encoder, p.Layout, kept))
		pred := unet.Forward(u, p.UNet, unet.Inputs{Sample: t.Sample, Timestep: t.Timestep, EncoderHiddenStates: text.Last})

		h, w := p.UNet.SampleSize[0], p.UNet.SampleSize[1]
		diffusion := t.LossAt(s, pred, placeWeights(h, w), h, w)
		wordNorm, coefficientNorm := c.words.Mul(c.words).Mean(0, 1, 2).Reshape(1), c.coefficients.Mul(c.coefficients).Mean(0, 1).Reshape(1)
		traits := unseen(s, c.traits)
		loss := diffusion.Reshape(1).Add(traits.Scale(traitWeight)).Add(wordNorm.Scale(wordPenalty)).Add(coefficientNorm.Scale(coefficientPenalty))
		return map[string]op.Tensor{"loss": loss, "diffusion": diffusion, "traits": traits, "word_norm": wordNorm, "coefficient_norm": coefficientNorm}
	}
}

// placeWeights are the weights of the places [h, w] in the loss, of mean 1. What is around a portrait's head is of the caption, and only noise
// to what the encoder should learn; eyes, brows, nose and mouth are few places, and hold most of who a face is and all of its expression.
func placeWeights(h, w int) []float32 {
	const around, head, features = 0.4, 0.6, 3
	weights, sum := make([]float32, h*w), float32(0)
	for i := range weights {
		x, y := (float64(i%w)+0.5)/float64(w), (float64(i/w)+0.5)/float64(h)
		weights[i] = float32(around + head*inside(x-0.5, y-0.46, 0.34) + features*inside(x-0.5, y-0.57, 0.17))
		sum += weights[i]
	}
	for i := range weights {
		weights[i] *= float32(len(weights)) / sum
	}
	return weights
}

// inside is 1 within a circle around the origin, 0 outside, and between them at its soft edge. Lengths are of a picture's side.
func inside(x, y, radius float64) float64 { return 1 / (1 + math.Exp((math.Hypot(x, y)-radius)/0.03)) }

func (p *Pretraining) batch(photos *photos, size int, r *rand.Rand) (map[string]op.Array, error) {
	b := p.noise.Batch(size, p.UNet)
	length, n := p.Text.MaxPositionEmbeddings, p.Encoder.NumVectors
	ids := make([]int64, 0, size*length)
	slots := make([]float32, size*length*n)
	keep, traits := make([]float32, size), make([]float32, 0, size*portraits.NumTraits)
	count, side := photosOf(r), p.Encoder.ImageSize
	planes := make([]float32, size*count*3*side*side)
	for i := range size {
		person := p.pool.Pick(r)
		picture := person.Pictures[r.IntN(len(person.Pictures))]
		for j := range count {
			c := portraits.NewContext(r)
			if p.SameImage {
				c = picture.Context
			}
			photos.draw(planes[(i*count+j)*3*side*side:][:3*side*side], person.Identity, c, side, r)
		}
		traits = append(traits, person.Identity.Traits()...)
		e, err := p.Tokenizer.Encode(portraits.Prompt(picture.Context, "<"+word+">"), []tokenizer.Placeholder{{Word: word, Class: class, Vectors: n}})
		if err != nil {
			return nil, err
		}
		ids = append(ids, e.IDs...)
		if r.Float64() >= dropout {
			for _, slot := range e.Slots {
				slots[(i*length+slot.Position)*n+slot.Vector] = 1
			}
		}
		if r.Float64() >= dropout {
			keep[i] = 1
		}
		b.Add(i, picture.Latent, r)
	}
	inputs := b.Inputs()
	inputs["input_ids"] = op.Ints(ids, size, length)
	inputs["slots"] = op.Floats(slots, size, length, n)
	inputs["keep_offsets"] = op.Floats(keep, size)
	inputs["traits"] = op.Floats(traits, size, portraits.NumTraits)
	inputs["photos"] = op.Floats(planes, size, count, 3, side, side)
	return inputs, nil
}

// samples shows validation persons: a photo, then pictures of other contexts made from it.
func (p *Pretraining) samples(engine *torch.Engine, average *torch.Params) (image.Image, error) {
	const rows, columns = 4, 8
	r := rand.New(rand.NewPCG(13, 13))
	side, length, n := p.Encoder.ImageSize, p.Text.MaxPositionEmbeddings, p.Encoder.NumVectors
	planes := make([]float32, rows*3*side*side)
	var shown []image.Image
	renderer := portraits.NewRenderer()
	var contexts []portraits.Context
	for range columns - 1 {
		contexts = append(contexts, portraits.NewContext(r))
	}
	for i := range rows {
		photo := renderer.Draw(portraits.Validation.Identity(i), portraits.NewContext(r))
		pixels.Planes(planes[i*3*side*side:], photo)
		img, err := pixels.Image(planes[i*3*side*side:(i+1)*3*side*side], side, side)
		if err != nil {
			return nil, err
		}
		shown = append(shown, img)
	}
	made, err := engine.Run(p.trained(), map[string]op.Array{"photos": op.Floats(planes, rows, 1, 3, side, side)}, average)
	if err != nil {
		return nil, err
	}
	var ids []int64
	count := rows * (columns - 1)
	residual := make([]float32, count*length*p.Text.HiddenSize)
	offsets := make([]float32, 2*count*p.Layout.Size())
	for i := range count {
		row := i / (columns - 1)
		e, err := p.Tokenizer.Encode(portraits.Prompt(contexts[i%(columns-1)], "<"+word+">"), []tokenizer.Placeholder{{Word: word, Class: class, Vectors: n}})
		if err != nil {
			return nil, err
		}
		ids = append(ids, e.IDs...)
		width := p.Text.HiddenSize
		for _, slot := range e.Slots {
			copy(residual[(i*length+slot.Position)*width:][:width], made["words"].F32[(row*n+slot.Vector)*width:])
		}
		copy(offsets[(count+i)*p.Layout.Size():][:p.Layout.Size()], made["offsets"].F32[row*p.Layout.Size():])
	}
	return p.grid(engine, shown, columns, ids, residual, op.Floats(offsets, 2*count, 1, p.Layout.Size()))
}

// grid draws the pictures of each photo beside it.
func (p *Pretraining) grid(engine *torch.Engine, photos []image.Image, columns int, ids []int64, residual []float32, offsets op.Array) (image.Image, error) {
	s := base.Sampler{Architecture: p.Architecture, Engine: engine, VAE: p.VAE, Steps: 12, GuidanceScale: 3}
	text, err := s.Text(p.Tokenizer, ids, residual, p.Frozen...)
	if err != nil {
		return nil, err
	}
	adapted := unet.New(p.UNet, p.Layout)
	model := func(s op.Scope) map[string]op.Tensor { return adapted(s.Component("unet")) }
	made, err := s.Pictures(text, func(inputs map[string]op.Array) (op.Array, error) {
		inputs["offsets"] = offsets
		out, err := engine.Run(model, inputs, p.Frozen...)
		return out["noise_pred"], err
	})
	if err != nil {
		return nil, err
	}
	var all []image.Image
	for i, photo := range photos {
		all = append(append(all, photo), made[i*(columns-1):(i+1)*(columns-1)]...)
	}
	return pixels.Grid(all, columns), nil
}

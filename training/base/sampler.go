//go:build torch

package base

import (
	"image"
	"slices"

	"likeness/models/backend/torch"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/rng"
	"likeness/models/scheduler"
	"likeness/models/tokenizer"
	"likeness/models/vae"
)

// Sampler draws pictures on libtorch while a training goes on. Serving has an engine of its own, in models/pipeline.
type Sampler struct {
	Architecture
	Engine        *torch.Engine
	VAE           *torch.Params
	Steps         int
	GuidanceScale float64
	TextDeltas    func(op.Scope) op.Deltas // changes of the text encoder's layers; nil: none
}

// Text returns the states of the empty prompt followed by those of ids [n, L], with residual [n, L, D] added to the token embeddings (or nil).
func (s Sampler) Text(tok *tokenizer.Tokenizer, ids []int64, residual []float32, weights ...*torch.Params) (op.Array, error) {
	empty, err := tok.Encode("", nil)
	if err != nil {
		return op.Array{}, err
	}
	length, width := s.Architecture.Text.MaxPositionEmbeddings, s.Architecture.Text.HiddenSize
	all := append(append([]int64(nil), empty.IDs...), ids...)
	added := make([]float32, len(all)*width)
	copy(added[length*width:], residual)
	n := len(all) / length
	model := clip.Text(s.Architecture.Text)
	encode := func(sc op.Scope) map[string]op.Tensor {
		encoder := sc.Component("text_encoder")
		if s.TextDeltas != nil {
			encoder = encoder.WithDeltas(s.TextDeltas(sc))
		}
		return model(encoder)
	}
	out, err := s.Engine.Run(encode,
		map[string]op.Array{"input_ids": op.Ints(all, n, length), "concept_embeddings": op.Floats(added, n, length, width)}, weights...)
	return out["last_hidden_state"], err
}

// Pictures draws one picture for each of the text states [1+n, L, D] or [1+n, layers, L, D], the first of which is the empty prompt. denoise runs the UNet on
// sample, timestep and encoder_hidden_states of 2n rows, unconditional ones first.
func (s Sampler) Pictures(text op.Array, denoise func(map[string]op.Array) (op.Array, error)) ([]image.Image, error) {
	n := text.Dims[0] - 1
	u := s.UNet
	dims := []int{2 * n, u.InChannels, u.SampleSize[0], u.SampleSize[1]}
	size := op.Size(dims[1:])
	states := make([]float32, 0, 2*n*op.Size(text.Dims[1:]))
	for range n {
		states = append(states, text.F32[:op.Size(text.Dims[1:])]...)
	}
	states = append(states, text.F32[op.Size(text.Dims[1:]):]...)

	sample := make([]float32, n*size)
	rng.NewCPU(1).Normal(sample)
	samplers := make([]scheduler.Scheduler, n)
	for i := range samplers {
		var err error
		if samplers[i], err = scheduler.New(s.Scheduler, "ddim", s.Steps); err != nil {
			return nil, err
		}
	}
	timestep := make([]float32, 2*n)
	for i, t := range samplers[0].Timesteps() {
		for j := range timestep {
			timestep[j] = float32(t)
		}
		pred, err := denoise(map[string]op.Array{
			"sample":                op.Floats(append(append([]float32(nil), sample...), sample...), dims...),
			"timestep":              op.Floats(timestep, 2*n),
			"encoder_hidden_states": op.Floats(states, append([]int{2 * n}, text.Dims[1:]...)...),
		})
		if err != nil {
			return nil, err
		}
		none, cond := pred.F32[:n*size], pred.F32[n*size:]
		for j := range none {
			none[j] += float32(s.GuidanceScale) * (cond[j] - none[j])
		}
		for j, sc := range samplers {
			if err := sc.Step(sample[j*size:(j+1)*size], none[j*size:(j+1)*size], i); err != nil {
				return nil, err
			}
		}
	}
	return s.decode(sample, n)
}

func (s Sampler) decode(sample []float32, n int) ([]image.Image, error) {
	v := s.Architecture.VAE
	for i := range sample {
		sample[i] = sample[i]/float32(v.ScalingFactor) + float32(v.Shift())
	}
	var pictures []image.Image
	for one := range slices.Chunk(sample, len(sample)/n) { // one after the other: what a VAE makes on its way is large
		in := map[string]op.Array{"latents": op.Floats(one, 1, v.LatentChannels, s.UNet.SampleSize[0], s.UNet.SampleSize[1])}
		out, err := s.Engine.Run(vae.Decoder(v), in, s.VAE)
		if err != nil {
			return nil, err
		}
		picture, err := images(out["image"])
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture...)
	}
	return pictures, nil
}

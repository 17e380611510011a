//go:build torch

package tune

import (
	"image"
	"slices"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/unet"
	"likeness/training/base"
)

// sample draws the first caption with what is learned now, always with the same noise.
func (r *run) sample() (image.Image, error) {
	pictures, err := r.pictures(12, 3)
	if err != nil {
		return nil, err
	}
	return pictures[0], nil
}

// pictures draws the first caption in steps with guidance. The negative prompt is empty.
func (r *run) pictures(steps int, guidance float64) ([]image.Image, error) {
	s := base.Sampler{Architecture: r.base.Architecture, Engine: r.engine, VAE: r.base.VAE, Steps: steps, GuidanceScale: guidance,
		TextDeltas: func(s op.Scope) op.Deltas { return r.learner.deltas(s, checkpoint.TextEncoder) }}
	numbers, err := r.numbers()
	if err != nil {
		return nil, err
	}
	residual := r.residual(r.captions[0], numbers[vectorsName].F32)
	text, err := s.Text(r.base.tokenizer, slices.Repeat(r.captions[0].ids, r.layers()), residual, r.weights()...)
	if err != nil {
		return nil, err
	}
	if !r.learner.everywhere { // the negative prompt is the base's
		empty, err := s.Text(r.base.tokenizer, nil, nil, r.base.UNetAndText...)
		if err != nil {
			return nil, err
		}
		copy(text.F32, empty.F32)
	}
	text = r.rows(text)
	width := op.Size(text.Dims[1:])
	half := func(inputs map[string]op.Array, i int) map[string]op.Array {
		size := len(inputs["sample"].F32) / 2
		dims := append([]int{1}, inputs["sample"].Dims[1:]...)
		return map[string]op.Array{"sample": op.Floats(inputs["sample"].F32[i*size:(i+1)*size], dims...),
			"timestep":              op.Floats(inputs["timestep"].F32[i:i+1], 1),
			"encoder_hidden_states": op.Floats(text.F32[i*width:(i+1)*width], append([]int{1}, text.Dims[1:]...)...)}
	}
	predict := func(inputs map[string]op.Array, tuned bool) (op.Array, error) {
		weights := r.base.UNetAndText
		if tuned {
			weights = r.weights()
		}
		out, err := r.engine.Run(func(s op.Scope) map[string]op.Tensor {
			u := s.Component(checkpoint.UNet)
			if tuned {
				u = r.unet(s, pictureGate)
			}
			return unet.New(r.unetConfig(), nil)(u)
		}, inputs, weights...)
		return out["noise_pred"], err
	}
	return s.Pictures(text, func(inputs map[string]op.Array) (op.Array, error) {
		negative, err := predict(half(inputs, 0), r.learner.everywhere)
		if err != nil {
			return op.Array{}, err
		}
		positive, err := predict(half(inputs, 1), true)
		return op.Floats(append(negative.F32, positive.F32...), inputs["sample"].Dims...), err
	})
}

// rows are the texts of two rows, from the states of the empty prompt and those of the caption in each layer.
func (r *run) rows(text op.Array) op.Array {
	if r.layers() == 1 {
		return text
	}
	one := op.Size(text.Dims[1:])
	return op.Floats(append(slices.Repeat(text.F32[:one], r.layers()), text.F32[one:]...), 2, r.layers(), text.Dims[1], text.Dims[2])
}

// residual is what a caption's word of the vectors adds to the token embeddings, [layers, L, text width].
func (t *task) residual(c caption, vectors []float32) []float32 {
	n, width := t.vectors(), t.base.Text.HiddenSize
	size := len(c.ids) * width
	out := make([]float32, t.layers()*size)
	for layer := range t.layers() {
		for i, one := range c.slotsOf(layer, t.layers()) {
			if one != 0 {
				copy(out[layer*size+i/n*width:][:width], vectors[i%n*width:][:width])
			}
		}
	}
	return out
}

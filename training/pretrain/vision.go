//go:build torch

package pretrain

import (
	"context"
	"math/rand/v2"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/training/loop"
	"likeness/training/portraits"
)

const (
	component  = "encoder"
	traitsHead = "traits_head" // beside the encoder's own weights, and not exported
)

// TrainVision teaches the encoder's trunk to see who is in a picture before it has to say it to a denoiser: the person's traits, which the
// portraits' generator knows, are read from the summary by a layer that is thrown away. Without a denoiser a step costs a small part, and
// its gradient says far more of a face than the denoiser's, most of whose loss is noise and scenery.
func TrainVision(ctx context.Context, engine *torch.Engine, enc encoder.Config, cfg loop.Config) error {
	photos := newPhotos()
	model := func(s op.Scope) map[string]op.Tensor {
		s = s.Component(component)
		summary := encoder.Summary(s, enc, s.Input("photos", op.Float32, -1, -1, 3, enc.ImageSize, enc.ImageSize))
		return map[string]op.Tensor{"loss": unseen(s, readTraits(s, enc, summary))}
	}
	return loop.Train(ctx, engine, cfg, loop.Task{
		Model: model,
		Init:  func() (map[string]op.Array, error) { return loop.Init(model, 3, ".conv2.weight") },
		Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
			count, size := photosOf(r), 3*enc.ImageSize*enc.ImageSize
			planes, traits := make([]float32, cfg.Batch*count*size), make([]float32, 0, cfg.Batch*portraits.NumTraits)
			for i := range cfg.Batch {
				id := portraits.Train.Identity(r.IntN(visionPersons))
				for j := range count {
					photos.draw(planes[(i*count+j)*size:][:size], id, portraits.NewContext(r), enc.ImageSize, r)
				}
				traits = append(traits, id.Traits()...)
			}
			return map[string]op.Array{
				"photos": op.Floats(planes, cfg.Batch, count, 3, enc.ImageSize, enc.ImageSize),
				"traits": op.Floats(traits, cfg.Batch, portraits.NumTraits),
			}, nil
		},
	})
}

// visionPersons are seen by the vision: as many that few are seen twice, and none that the judges of the evaluation have learned from.
const visionPersons = 1 << 19

// photosOf is how many pictures of each person a step reads together: mostly one.
func photosOf(r *rand.Rand) int {
	if r.IntN(4) > 0 {
		return 1
	}
	return 1 + r.IntN(encoder.MaxPhotos)
}

// readTraits reads the traits of persons [B, NumTraits] from their summary.
func readTraits(s op.Scope, cfg encoder.Config, summary op.Tensor) op.Tensor {
	return nn.Linear(s.At(traitsHead), summary, cfg.HiddenSize, portraits.NumTraits, true)
}

// unseen is the mean part of the traits' variance that read [B, NumTraits] does not explain, a scalar: 1 for who sees nothing, 0 for who sees all.
func unseen(s op.Scope, read op.Tensor) op.Tensor {
	miss := read.Sub(s.Input("traits", op.Float32, -1, portraits.NumTraits))
	return miss.Mul(miss).Mul(s.Const(traitWeights(), 1, portraits.NumTraits)).Mean(0, 1).Reshape(1)
}

// traitWeights are the reciprocal variances of the traits among people, over the mean of which a constant guess makes 1.
func traitWeights() []float32 {
	const people = 4096
	sum, squares := make([]float64, portraits.NumTraits), make([]float64, portraits.NumTraits)
	for i := range people {
		for j, v := range portraits.Train.Identity(i).Traits() {
			sum[j] += float64(v)
			squares[j] += float64(v) * float64(v)
		}
	}
	weights, varied := make([]float32, portraits.NumTraits), 0
	for j := range weights {
		mean := sum[j] / people
		if variance := squares[j]/people - mean*mean; variance > 1e-4 {
			weights[j] = float32(1 / variance)
			varied++
		}
	}
	for j := range weights {
		weights[j] *= float32(portraits.NumTraits) / float32(varied)
	}
	return weights
}

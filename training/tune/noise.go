package tune

import (
	"math"

	"likeness/models/op"
	"likeness/models/scheduler"
	"likeness/models/unet"
)

// gamma bounds the weight of low noise levels for networks that predict v: min-SNR weighting (Hang et al. 2023) plus one, so that the level
// of pure noise counts too, as the bundled base was trained: (min(SNR, γ) + 1) / (SNR + 1). Networks that predict noise weigh all levels
// alike, as theirs were.
const gamma = 5

// batch are noisy latents [B, C, h, w] with what the network should predict for them.
type batch struct {
	schedule                               scheduler.Config
	dims                                   []int
	sample, target, timestep, weight, mask []float32
}

func newBatch(schedule scheduler.Config, dims []int) *batch {
	size, rows := op.Size(dims), dims[0]
	return &batch{schedule, dims, make([]float32, size), make([]float32, size), make([]float32, rows), make([]float32, rows),
		make([]float32, rows*op.Size(dims[2:]))}
}

// put fills row i: a latent, the noise to add at timestep t, and how much its places count.
func (b *batch) put(i int, latent, noise, mask []float32, t int) {
	size := len(latent)
	b.schedule.AddNoise(b.sample[i*size:(i+1)*size], latent, noise, t)
	snr := b.schedule.SNR(t)
	signal, sigma := math.Sqrt(snr/(1+snr)), math.Sqrt(1/(1+snr))
	target := b.target[i*size : (i+1)*size]
	b.timestep[i], b.weight[i] = float32(t), 1
	switch b.schedule.PredictionType {
	case scheduler.VPrediction:
		for j := range target {
			target[j] = float32(signal*float64(noise[j]) - sigma*float64(latent[j]))
		}
		b.weight[i] = float32((math.Min(snr, gamma) + 1) / (snr + 1))
	case scheduler.Sample:
		copy(target, latent)
	default:
		copy(target, noise)
	}
	copy(b.mask[i*len(mask):], mask)
}

func (b *batch) inputs() map[string]op.Array {
	rows := b.dims[0]
	return map[string]op.Array{
		"sample": op.Floats(b.sample, b.dims...), "target": op.Floats(b.target, b.dims...), "timestep": op.Floats(b.timestep, rows),
		"weight": op.Floats(b.weight, rows), "mask": op.Floats(b.mask, rows, 1, b.dims[2], b.dims[3]),
	}
}

// diffusion is the weighted mean squared error [1] of the prediction for a batch's inputs.
func diffusion(s op.Scope, cfg unet.Config, predict func(sample, timestep op.Tensor) op.Tensor) op.Tensor {
	sample, target := s.Input("sample", op.Float32, -1, cfg.InChannels, -1, -1), s.Input("target", op.Float32, -1, cfg.InChannels, -1, -1)
	miss := predict(sample, s.Input("timestep", op.Float32, -1)).Sub(target)
	each := miss.Mul(miss).Mul(s.Input("mask", op.Float32, -1, 1, -1, -1)).Mean(1, 2, 3) // [B, 1, 1, 1]
	return each.Mul(s.Input("weight", op.Float32, -1).Reshape(-1, 1, 1, 1)).Mean(0, 1, 2, 3).Reshape(1)
}

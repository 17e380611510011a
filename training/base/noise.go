//go:build torch

package base

import (
	"math"
	"math/rand/v2"

	"likeness/models/op"
	"likeness/models/scheduler"
	"likeness/models/unet"
)

// gamma bounds the weight of low noise levels: min-SNR weighting (Hang et al. 2023), in the form for v-prediction, plus one so that the
// level of pure noise counts too: (min(SNR, γ) + 1) / (SNR + 1).
const gamma = 5

// Noise makes the noisy inputs of diffusion training with a v-prediction schedule.
type Noise struct {
	alphas []float64 // cumulative products
	// Early makes half of the levels those of the first quarter of sampling, where a picture is decided on; later ones show already
	// what is in it. T2I-Adapter (Mou et al. 2023, section 3.4) leans further still.
	Early bool
}

// NewNoise prepares a schedule, all of whose levels are equally frequent.
func NewNoise(cfg scheduler.Config) *Noise { return &Noise{alphas: cfg.AlphasCumprod()} }

// NoisyBatch is a batch of noisy latents with what the network should predict for them.
type NoisyBatch struct {
	noise                            *Noise
	dims                             []int
	sample, target, timestep, weight []float32
}

// Batch is an empty batch for a UNet.
func (n *Noise) Batch(size int, cfg unet.Config) *NoisyBatch {
	dims := []int{size, cfg.InChannels, cfg.SampleSize[0], cfg.SampleSize[1]}
	return &NoisyBatch{n, dims, make([]float32, op.Size(dims)), make([]float32, op.Size(dims)), make([]float32, size), make([]float32, size)}
}

// Add puts a latent at place i, at a random noise level. The levels of a batch are stratified over the schedule.
func (b *NoisyBatch) Add(i int, latent []float32, r *rand.Rand) {
	level := (float64(i) + r.Float64()) / float64(b.dims[0])
	if b.noise.Early {
		level = 1 - level*level
	}
	t := min(int(level*float64(len(b.noise.alphas))), len(b.noise.alphas)-1)
	alpha := b.noise.alphas[t]
	signal, sigma := float32(math.Sqrt(alpha)), float32(math.Sqrt(1-alpha))
	at := i * len(latent)
	for j, x := range latent {
		e := float32(r.NormFloat64())
		b.sample[at+j] = signal*x + sigma*e
		b.target[at+j] = signal*e - sigma*x
	}
	snr := alpha / (1 - alpha)
	b.timestep[i], b.weight[i] = float32(t), float32((math.Min(snr, gamma)+1)/(snr+1))
}

// Inputs are the arrays that [NoisyInputs] declares.
func (b *NoisyBatch) Inputs() map[string]op.Array {
	return map[string]op.Array{
		"sample": op.Floats(b.sample, b.dims...), "target": op.Floats(b.target, b.dims...),
		"timestep": op.Floats(b.timestep, b.dims[0]), "weight": op.Floats(b.weight, b.dims[0]),
	}
}

// Noisy are the inputs of a diffusion loss.
type Noisy struct {
	Sample, Timestep, target, weight op.Tensor
}

// NoisyInputs declares them.
func NoisyInputs(s op.Scope, cfg unet.Config) Noisy {
	dims := []int{-1, cfg.InChannels, cfg.SampleSize[0], cfg.SampleSize[1]}
	return Noisy{s.Input("sample", op.Float32, dims...), s.Input("timestep", op.Float32, -1),
		s.Input("target", op.Float32, dims...), s.Input("weight", op.Float32, -1)}
}

// Loss is the weighted mean squared error of a prediction [B, C, H, W], of all places alike.
func (n Noisy) Loss(pred op.Tensor) op.Tensor { return n.mean(pred.Sub(n.target)) }

// LossAt is the loss with weights of the places, [H, W] of mean 1.
func (n Noisy) LossAt(s op.Scope, pred op.Tensor, weights []float32, h, w int) op.Tensor {
	roots := make([]float32, len(weights))
	for i, v := range weights {
		roots[i] = float32(math.Sqrt(float64(v)))
	}
	return n.mean(pred.Sub(n.target).Mul(s.Const(roots, 1, 1, h, w)))
}

func (n Noisy) mean(d op.Tensor) op.Tensor {
	return d.Mul(d).Mean(1, 2, 3).Mul(n.weight.Reshape(-1, 1, 1, 1)).Mean(0, 1, 2, 3)
}

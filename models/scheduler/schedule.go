package scheduler

import (
	"math"
	"slices"
)

// leastAlpha stands in for ᾱ = 0 where a finite σ is needed.
const leastAlpha = 0x1p-24

// f32 rounds to float32. Diffusers keeps its schedules in float32, which leaves 1-ᾱ_0, and with it the end of a walk,
// four digits; rounding where it rounds makes the rest equal too.
func f32(x float64) float64 { return float64(float32(x)) }

// betas returns β of every timestep of training.
func (c Config) betas() []float64 {
	b := slices.Clone(c.TrainedBetas)
	if len(b) == 0 {
		b = make([]float64, max(c.NumTrainTimesteps, 1))
	}
	n := float64(len(b))
	for i := range b {
		u := float64(i) / max(n-1, 1)
		switch {
		case len(c.TrainedBetas) > 0:
		case c.BetaSchedule == "scaled_linear":
			root := f32(math.Sqrt(c.BetaStart) + u*(math.Sqrt(c.BetaEnd)-math.Sqrt(c.BetaStart)))
			b[i] = root * root
		case c.BetaSchedule == "squaredcos_cap_v2": // Nichol and Dhariwal 2021, eq. 17
			bar := func(t float64) float64 {
				r := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return r * r
			}
			b[i] = min(1-bar(float64(i+1)/n)/bar(float64(i)/n), 0.999)
		default:
			b[i] = c.BetaStart + u*(c.BetaEnd-c.BetaStart)
		}
		b[i] = f32(b[i])
	}
	return b
}

// AlphasCumprod returns ᾱ of every timestep of training. With rescale_betas_zero_snr the last is exactly 0.
func (c Config) AlphasCumprod() []float64 {
	bar := cumprod(c.betas())
	if !c.RescaleBetasZeroSNR || len(bar) < 2 {
		return bar
	}
	first, last := f32(math.Sqrt(bar[0])), f32(math.Sqrt(bar[len(bar)-1])) // Lin et al. 2023, algorithm 1
	betas := make([]float64, len(bar))
	before := 1.0
	for i, a := range bar {
		root := f32(f32(f32(math.Sqrt(a))-last) * f32(first/f32(first-last)))
		rescaled := f32(root * root)
		betas[i] = f32(1 - f32(rescaled/before))
		before = rescaled
	}
	return cumprod(betas)
}

// cumprod replaces β by ᾱ.
func cumprod(betas []float64) []float64 {
	product := 1.0
	for i, beta := range betas {
		product *= f32(1 - beta)
		betas[i] = f32(product)
	}
	return betas
}

// sigmas returns σ of every timestep of training, finite also at zero signal.
func (c Config) sigmas() []float64 {
	s := c.AlphasCumprod()
	for i, a := range s {
		if a == 0 {
			a = leastAlpha
		}
		s[i] = math.Sqrt((1 - a) / a)
	}
	return s
}

// alphaAt returns ᾱ_t; t outside the schedule counts as its nearest end.
func (c Config) alphaAt(t int) float64 {
	bar := c.AlphasCumprod()
	return bar[min(max(t, 0), len(bar)-1)]
}

// AddNoise writes √ᾱ_t·x0 + √(1-ᾱ_t)·noise to dst, which may be x0 or noise. The slices have one length; t outside
// the schedule counts as its nearest end.
func (c Config) AddNoise(dst, x0, noise []float32, t int) {
	a := c.alphaAt(t)
	mix(dst, math.Sqrt(a), x0, math.Sqrt(1-a), noise)
}

// SNR returns the signal-to-noise ratio ᾱ_t/(1-ᾱ_t); t outside the schedule counts as its nearest end.
func (c Config) SNR(t int) float64 {
	a := c.alphaAt(t)
	return a / (1 - a)
}

// PredictX0 writes to dst the clean sample that the network's output at timestep t stands for, as PredictionType says.
// sample is what the network saw (after ScaleInput), dst may be either input, t may lie between timesteps.
func (c Config) PredictX0(dst, sample, modelOutput []float32, t float64) {
	a := interpolate(c.AlphasCumprod(), t)
	if a == 0 && c.PredictionType == Epsilon {
		a = leastAlpha
	}
	ks, ko := x0Weights(c.PredictionType, math.Sqrt(a), math.Sqrt(1-a))
	mix(dst, ks, sample, ko, modelOutput)
}

// x0Weights returns the factors of x_0 = ks·sample + ko·output for a sample signal·x_0 + noise·ε.
func x0Weights(predictionType string, signal, noise float64) (ks, ko float64) {
	switch predictionType {
	case VPrediction:
		return signal, -noise
	case Sample:
		return 0, 1
	}
	return 1 / signal, -noise / signal
}

// epsWeights returns the factors of ε = ks·sample + ko·output for a sample signal·x_0 + noise·ε.
func epsWeights(predictionType string, signal, noise float64) (ks, ko float64) {
	switch predictionType {
	case VPrediction:
		return noise, signal
	case Sample:
		return 1 / noise, -signal / noise
	}
	return 0, 1
}

// clip is the predicted x_0 as ClipSample wants it.
func (c Config) clip(x0 float64) float64 {
	if c.ClipSample {
		return min(max(x0, -c.ClipSampleRange), c.ClipSampleRange)
	}
	return x0
}

// normalized returns √ᾱ and √(1-ᾱ) of a noise level σ.
func normalized(sigma float64) (signal, noise float64) {
	signal = 1 / math.Hypot(sigma, 1)
	return signal, sigma * signal
}

// mix writes kx·x + ky·y to dst.
func mix(dst []float32, kx float64, x []float32, ky float64, y []float32) {
	for i := range min(len(dst), len(x), len(y)) {
		dst[i] = float32(kx*float64(x[i]) + ky*float64(y[i]))
	}
}

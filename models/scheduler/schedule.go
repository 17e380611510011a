package scheduler

import (
	"math"
	"slices"
	"sort"
)

// leastAlpha stands in for ᾱ = 0 where a finite σ is needed.
const leastAlpha = 0x1p-24

// betas returns β of every timestep of training.
func (c Config) betas() []float64 {
	if len(c.TrainedBetas) > 0 {
		return slices.Clone(c.TrainedBetas)
	}
	b := make([]float64, max(c.NumTrainTimesteps, 1))
	n := float64(len(b))
	for i := range b {
		u := float64(i) / max(n-1, 1)
		switch c.BetaSchedule {
		case "scaled_linear":
			root := math.Sqrt(c.BetaStart) + u*(math.Sqrt(c.BetaEnd)-math.Sqrt(c.BetaStart))
			b[i] = root * root
		case "squaredcos_cap_v2": // Nichol and Dhariwal 2021, eq. 17
			bar := func(t float64) float64 {
				r := math.Cos((t + 0.008) / 1.008 * math.Pi / 2)
				return r * r
			}
			b[i] = min(1-bar(float64(i+1)/n)/bar(float64(i)/n), 0.999)
		default:
			b[i] = c.BetaStart + u*(c.BetaEnd-c.BetaStart)
		}
	}
	return b
}

// AlphasCumprod returns ᾱ of every timestep of training. With rescale_betas_zero_snr the last is exactly 0.
func (c Config) AlphasCumprod() []float64 {
	bar := c.betas()
	product := 1.0
	for i, beta := range bar {
		product *= 1 - beta
		bar[i] = product
	}
	if c.RescaleBetasZeroSNR && len(bar) > 1 { // Lin et al. 2023, algorithm 1
		first, last := math.Sqrt(bar[0]), math.Sqrt(bar[len(bar)-1])
		for i := range bar {
			root := (math.Sqrt(bar[i]) - last) * first / (first - last)
			bar[i] = root * root
		}
	}
	return bar
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

// interpolate reads ys, which is not empty, at the fractional index x, clamped to its ends.
func interpolate(ys []float64, x float64) float64 {
	last := len(ys) - 1
	if last < 1 || !(x > 0) {
		return ys[0]
	}
	x = min(x, float64(last))
	i := min(int(x), last-1)
	return ys[i] + (x-float64(i))*(ys[i+1]-ys[i])
}

// timestepOf inverts interpolate for σ, on a logarithmic scale as Karras' timesteps are defined in diffusers.
func timestepOf(sigma float64, sigmas []float64) float64 {
	if len(sigmas) < 2 {
		return 0
	}
	low := sort.Search(len(sigmas), func(i int) bool { return sigmas[i] > sigma }) - 1
	low = min(max(low, 0), len(sigmas)-2)
	from, to := math.Log(sigmas[low]), math.Log(sigmas[low+1])
	w := (math.Log(max(sigma, 1e-10)) - from) / (to - from)
	return float64(low) + min(max(w, 0), 1)
}

// karras returns n noise levels falling from most to least (Karras et al. 2022, eq. 5, ρ = 7).
func karras(most, least float64, n int) []float64 {
	const rho = 7
	s := make([]float64, n)
	hi, lo := math.Pow(most, 1.0/rho), math.Pow(least, 1.0/rho)
	for i := range s {
		s[i] = math.Pow(hi+float64(i)/float64(max(n-1, 1))*(lo-hi), rho)
	}
	return s
}

// grid returns steps falling timesteps (Lin et al. 2023, table 2) of the first last timesteps of training, cut into
// points for leading and linspace. The arithmetic follows NumPy's so that later rounding meets the same ties.
func (c Config) grid(spacing string, last, points, steps int) []float64 {
	var ts []float64
	switch spacing {
	case "trailing":
		start := float64(last)
		delta := start - (start - float64(c.NumTrainTimesteps)/float64(steps))
		count := int(math.Ceil(start / (float64(c.NumTrainTimesteps) / float64(steps))))
		for i := range count {
			ts = append(ts, math.RoundToEven(start-float64(i)*delta)-1)
		}
	case "leading":
		for i := range steps {
			ts = append(ts, float64(last/points*(points-1-i)+c.StepsOffset))
		}
	default:
		width := float64(last-1) / float64(max(points-1, 1))
		for i := range steps {
			ts = append(ts, float64(points-1-i)*width)
		}
	}
	return ts
}

package scheduler

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"sort"
)

// grid returns steps falling timesteps (Lin et al. 2023, table 2) of the first last timesteps of training, cut into
// points for leading and linspace. The arithmetic follows NumPy's so that later rounding meets the same ties.
func (c Config) grid(spacing string, last, points, steps int) []float64 {
	var ts []float64
	switch spacing {
	case "trailing":
		start := float64(last)
		delta := start - (start - float64(c.NumTrainTimesteps)/float64(steps))
		count := int(math.Ceil(start / (float64(c.NumTrainTimesteps) / float64(steps))))
		for i := range min(count, steps) { // diffusers' division may add a timestep of -1, at 61 steps for one
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

// whole returns the timesteps of samplers that look ᾱ up: DDIM, DDPM and PNDM.
func (c Config) whole(steps int) ([]float64, error) {
	ts := c.grid(cmp.Or(c.TimestepSpacing, "leading"), c.NumTrainTimesteps, steps, steps)
	for i := range ts {
		ts[i] = math.RoundToEven(ts[i])
	}
	if last := float64(c.NumTrainTimesteps - 1); ts[0] > last {
		return nil, fmt.Errorf("scheduler: with %d steps, steps_offset %d starts past timestep %g", steps, c.StepsOffset, last)
	}
	return ts, nil
}

// levels returns the timesteps of samplers over σ, Euler's and Heun's, and σ at each.
func (c Config) levels(steps int) (timesteps, sigmas []float64, err error) {
	trained := c.sigmas()
	timesteps = c.grid(cmp.Or(c.TimestepSpacing, "linspace"), c.NumTrainTimesteps, steps, steps)
	for _, t := range timesteps {
		sigmas = append(sigmas, interpolate(trained, t))
	}
	if !c.UseKarrasSigmas {
		return timesteps, sigmas, nil
	}
	if sigmas, err = c.karras(sigmas[0], sigmas[steps-1], steps); err != nil {
		return nil, nil, err
	}
	for i, sigma := range sigmas {
		timesteps[i] = timestepOf(sigma, trained)
	}
	return timesteps, sigmas, nil
}

// solverLevels returns the whole timesteps of the multistep solvers, DPM-Solver and UniPC, and one σ more. No level
// stands still before the last, which would happen where steps nearly exhaust the training schedule.
func (c Config) solverLevels(steps int) (timesteps, sigmas []float64, err error) {
	trained := c.sigmas()
	if c.UseKarrasSigmas {
		if sigmas, err = c.karras(trained[len(trained)-1], trained[0], steps); err != nil {
			return nil, nil, err
		}
		for _, sigma := range sigmas {
			timesteps = append(timesteps, math.RoundToEven(timestepOf(sigma, trained)))
		}
	} else {
		last := len(trained)
		if c.LambdaMinClipped != nil { // λ = -log σ
			last = sort.Search(last, func(i int) bool { return -math.Log(trained[i]) < *c.LambdaMinClipped })
			if last < 2 {
				return nil, nil, errors.New("scheduler config: lambda_min_clipped leaves no timesteps")
			}
		}
		for _, t := range c.grid(cmp.Or(c.TimestepSpacing, "linspace"), last, steps+1, steps) {
			t = math.RoundToEven(t)
			timesteps = append(timesteps, t)
			sigmas = append(sigmas, interpolate(trained, t))
		}
	}
	for i := 1; i < len(sigmas); i++ {
		if !(sigmas[i] < sigmas[i-1]) {
			return nil, nil, fmt.Errorf("scheduler: %d steps repeat a noise level of this sampler, take fewer steps", steps)
		}
	}
	return timesteps, append(sigmas, c.finalSigma()), nil
}

// finalSigma is the noise level a sampler over σ ends at.
func (c Config) finalSigma() float64 {
	if c.FinalSigmasType == "sigma_min" {
		return c.sigmas()[0]
	}
	return 0
}

// karras returns n noise levels falling from most to least, or between those of the configuration (Karras et al. 2022,
// eq. 5, ρ = 7).
func (c Config) karras(most, least float64, n int) ([]float64, error) {
	if c.SigmaMax != nil {
		most = *c.SigmaMax
	}
	if c.SigmaMin != nil {
		least = *c.SigmaMin
	}
	if n > 1 && least >= most {
		return nil, fmt.Errorf("scheduler config: sigma_min %g is not below sigma_max %g", least, most)
	}
	const rho = 7
	s := make([]float64, n)
	hi, lo := math.Pow(most, 1.0/rho), math.Pow(least, 1.0/rho)
	for i := range s {
		s[i] = math.Pow(hi+float64(i)/float64(max(n-1, 1))*(lo-hi), rho)
	}
	return s, nil
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

package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// euler is the first-order sampler of Karras et al. 2022, algorithm 1 without its second-order correction, on samples
// x_0 + σ·ε.
type euler struct {
	prediction string
	timesteps  []float64
	sigmas     []float64 // one more than timesteps
	initSigma  float64
}

func newEuler(cfg Config, steps int) (Scheduler, error) {
	spacing := cfg.TimestepSpacing
	if spacing == "" {
		spacing = "linspace"
	}
	s := &euler{prediction: cfg.PredictionType, timesteps: cfg.grid(spacing, cfg.NumTrainTimesteps, steps, steps)}
	trained := cfg.sigmas()
	for _, t := range s.timesteps {
		s.sigmas = append(s.sigmas, interpolate(trained, t))
	}
	if cfg.UseKarrasSigmas {
		most, least := s.sigmas[0], s.sigmas[steps-1]
		if cfg.SigmaMax != nil {
			most = *cfg.SigmaMax
		}
		if cfg.SigmaMin != nil {
			least = *cfg.SigmaMin
		}
		if steps > 1 && least >= most {
			return nil, fmt.Errorf("scheduler config: sigma_min %g is not below sigma_max %g", least, most)
		}
		s.sigmas = karras(most, least, steps)
		for i, sigma := range s.sigmas {
			s.timesteps[i] = timestepOf(sigma, trained)
		}
	}
	s.initSigma = slices.Max(s.sigmas)
	if spacing == "leading" {
		s.initSigma = math.Hypot(s.initSigma, 1)
	}
	s.sigmas = append(s.sigmas, finalSigma(cfg, trained))
	return s, nil
}

// finalSigma is the noise level a sampler over σ ends at.
func finalSigma(cfg Config, trained []float64) float64 {
	if cfg.FinalSigmasType == "sigma_min" {
		return trained[0]
	}
	return 0
}

func (s *euler) Timesteps() []float64 { return slices.Clone(s.timesteps) }

func (s *euler) InitNoiseSigma() float64 { return s.initSigma }

func (s *euler) ScaleInput(dst, sample []float32, i int) {
	if i < 0 || i >= len(s.timesteps) {
		copy(dst, sample)
		return
	}
	k, _ := normalized(s.sigmas[i])
	for j := range min(len(dst), len(sample)) {
		dst[j] = float32(k * float64(sample[j]))
	}
}

func (s *euler) Step(sample, modelOutput []float32, i int) error {
	if err := checkStep(sample, modelOutput, i, len(s.timesteps)); err != nil {
		return err
	}
	sigma := s.sigmas[i]
	signal, noise := normalized(sigma)
	ks, ko := x0Weights(s.prediction, signal, noise)
	ks *= signal // sample is x_0 + σ·ε
	keep := s.sigmas[i+1] / sigma
	mix(sample, keep+(1-keep)*ks, sample, (1-keep)*ko, modelOutput) // x + (σ' - σ)·(x - x_0)/σ
	return nil
}

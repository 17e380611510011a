package scheduler

import (
	"errors"
	"math"
)

// preserving is what samplers of samples √ᾱ·x_0 + √(1-ᾱ)·ε share.
type preserving struct {
	plan
	alphas []float64 // ᾱ at each timestep
}

func (s *preserving) InitNoiseSigma() float64 { return 1 }

func (s *preserving) ScaleInput(dst, sample []float32, i int) { copy(dst, sample) }

func (s *preserving) AddNoise(sample, noise []float32, i int) error {
	if err := s.check(sample, noise, i); err != nil {
		return err
	}
	mix(sample, math.Sqrt(s.alphas[i]), sample, math.Sqrt(1-s.alphas[i]), noise)
	return nil
}

// checkFirst refuses ε at zero signal, from which no x_0 can be had.
func (c Config) checkFirst() error {
	if c.RescaleBetasZeroSNR && c.PredictionType == Epsilon {
		return errors.New("scheduler: rescale_betas_zero_snr with prediction_type epsilon has no first step in this sampler, use euler or v_prediction")
	}
	return nil
}

// ddim is the deterministic sampler of Song et al. 2021, eq. 12 with σ_t = 0.
type ddim struct {
	preserving
	cfg  Config
	next []float64 // ᾱ that each step ends at
}

func newDDIM(cfg Config, steps int) (Scheduler, error) {
	if err := cfg.checkFirst(); err != nil {
		return nil, err
	}
	timesteps, err := cfg.whole(steps)
	if err != nil {
		return nil, err
	}
	s := &ddim{preserving: preserving{plan: plan{timesteps, steps}}, cfg: cfg}
	bar := cfg.AlphasCumprod()
	for _, t := range timesteps {
		s.alphas = append(s.alphas, bar[int(t)])
		end := cfg.finalAlpha(bar)
		if to := int(t) - cfg.NumTrainTimesteps/steps; to >= 0 {
			end = bar[to]
		}
		s.next = append(s.next, end)
	}
	return s, nil
}

// finalAlpha is the ᾱ that DDIM and PNDM end at.
func (c Config) finalAlpha(bar []float64) float64 {
	if c.SetAlphaToOne {
		return 1
	}
	return bar[0]
}

func (s *ddim) Step(sample, modelOutput []float32, i int) error {
	if err := s.check(sample, modelOutput, i); err != nil {
		return err
	}
	signal, noise := math.Sqrt(s.alphas[i]), math.Sqrt(1-s.alphas[i])
	toSignal, toNoise := math.Sqrt(s.next[i]), math.Sqrt(1-s.next[i])
	ks, ko := x0Weights(s.cfg.PredictionType, signal, noise)
	for j := range sample {
		x, out := float64(sample[j]), float64(modelOutput[j])
		x0 := ks*x + ko*out
		eps := (x - signal*x0) / noise
		sample[j] = float32(toSignal*s.cfg.clip(x0) + toNoise*eps)
	}
	return nil
}

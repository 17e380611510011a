package scheduler

import (
	"math"
	"slices"
)

// exploding is what samplers of samples x_0 + σ·ε share.
type exploding struct {
	plan
	prediction string
	sigmas     []float64 // one more than timesteps
	initSigma  float64
}

// newExploding lays out one step after another, ending at final.
func newExploding(cfg Config, steps int, final float64) (exploding, error) {
	timesteps, sigmas, err := cfg.levels(steps)
	if err != nil {
		return exploding{}, err
	}
	s := exploding{plan: plan{timesteps, steps}, prediction: cfg.PredictionType, initSigma: slices.Max(sigmas)}
	if cfg.TimestepSpacing == "leading" {
		s.initSigma = math.Hypot(s.initSigma, 1)
	}
	s.sigmas = append(sigmas, final)
	return s, nil
}

func (s *exploding) InitNoiseSigma() float64 { return s.initSigma }

func (s *exploding) ScaleInput(dst, sample []float32, i int) {
	if i < 0 || i >= len(s.timesteps) {
		copy(dst, sample)
		return
	}
	k, _ := normalized(s.sigmas[i])
	for j := range min(len(dst), len(sample)) {
		dst[j] = float32(k * float64(sample[j]))
	}
}

func (s *exploding) AddNoise(sample, noise []float32, i int) error {
	if err := s.check(sample, noise, i); err != nil {
		return err
	}
	mix(sample, 1, sample, s.sigmas[i], noise)
	return nil
}

// x0Weights returns the factors of x_0 = ks·sample + ko·output at step i.
func (s *exploding) x0Weights(i int) (ks, ko float64) {
	signal, noise := normalized(s.sigmas[i])
	ks, ko = x0Weights(s.prediction, signal, noise)
	return ks * signal, ko
}

// euler is the first-order sampler of Karras et al. 2022, algorithm 1 without its second-order correction.
type euler struct{ exploding }

func newEuler(cfg Config, steps int) (Scheduler, error) {
	s, err := newExploding(cfg, steps, cfg.finalSigma())
	if err != nil {
		return nil, err
	}
	return &euler{s}, nil
}

func (s *euler) Step(sample, modelOutput []float32, i int) error {
	if err := s.check(sample, modelOutput, i); err != nil {
		return err
	}
	ks, ko := s.x0Weights(i)
	keep := s.sigmas[i+1] / s.sigmas[i]
	mix(sample, keep+(1-keep)*ks, sample, (1-keep)*ko, modelOutput) // x + (σ' - σ)·(x - x_0)/σ
	return nil
}

// eulerAncestral takes Euler's step too far, to σ'²/σ, and adds the noise that makes it σ' again: the ancestral
// sampling of Song et al. 2021 (score-based), eq. 47.
type eulerAncestral struct {
	exploding
	noise
}

func newEulerAncestral(cfg Config, steps int) (Scheduler, error) {
	cfg.UseKarrasSigmas = false // a key of other classes
	s, err := newExploding(cfg, steps, 0)
	if err != nil {
		return nil, err
	}
	return &eulerAncestral{exploding: s}, nil
}

func (s *eulerAncestral) Step(sample, modelOutput []float32, i int) error {
	if err := s.check(sample, modelOutput, i); err != nil {
		return err
	}
	z, err := s.draw(len(sample))
	if err != nil {
		return err
	}
	ks, ko := s.x0Weights(i)
	ratio := s.sigmas[i+1] / s.sigmas[i]
	keep, up := ratio*ratio, s.sigmas[i+1]*math.Sqrt(1-ratio*ratio)
	for j := range sample {
		x := float64(sample[j])
		x0 := ks*x + ko*float64(modelOutput[j])
		sample[j] = float32(keep*x + (1-keep)*x0 + up*float64(z[j]))
	}
	return nil
}

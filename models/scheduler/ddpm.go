package scheduler

import "math"

// ddpm is ancestral sampling (Ho et al. 2020, algorithm 2) over the timesteps taken, with the mean of their eq. 7.
type ddpm struct {
	preserving
	noise
	cfg Config
}

func newDDPM(cfg Config, steps int) (Scheduler, error) {
	if err := cfg.checkFirst(); err != nil {
		return nil, err
	}
	timesteps, err := cfg.whole(steps)
	if err != nil {
		return nil, err
	}
	s := &ddpm{preserving: preserving{plan: plan{timesteps, steps}}, cfg: cfg}
	bar := cfg.AlphasCumprod()
	for _, t := range timesteps {
		s.alphas = append(s.alphas, bar[int(t)])
	}
	return s, nil
}

func (s *ddpm) Step(sample, modelOutput []float32, i int) error {
	if err := s.check(sample, modelOutput, i); err != nil {
		return err
	}
	from, to := s.alphas[i], 1.0
	if i+1 < len(s.alphas) {
		to = s.alphas[i+1]
	}
	beta := 1 - from/to // of the whole step
	var z []float32
	var deviation float64
	if s.timesteps[i] > 0 {
		var err error
		if z, err = s.draw(len(sample)); err != nil {
			return err
		}
		deviation = math.Sqrt(beta)
		if s.cfg.VarianceType != "fixed_large" {
			deviation = math.Sqrt(max((1-to)/(1-from)*beta, 1e-20))
		}
	}
	ks, ko := x0Weights(s.cfg.PredictionType, math.Sqrt(from), math.Sqrt(1-from))
	toX0, keep := math.Sqrt(to)*beta/(1-from), math.Sqrt(from/to)*(1-to)/(1-from)
	for j := range sample {
		x := float64(sample[j])
		y := toX0*s.cfg.clip(ks*x+ko*float64(modelOutput[j])) + keep*x
		if z != nil {
			y += deviation * float64(z[j])
		}
		sample[j] = float32(y)
	}
	return nil
}

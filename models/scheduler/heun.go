package scheduler

import "fmt"

// heun is Karras et al. 2022, algorithm 1: Euler's step, then a second run of the network at its end, whose slope is
// averaged with the first; the last step is Euler's alone. Runs at even i begin a step.
type heun struct {
	exploding
	sequence
	cfg    Config
	before []float64 // the sample that the step begins at
	slope  []float64 // there
}

func newHeun(cfg Config, steps int) (Scheduler, error) {
	s, err := newExploding(cfg, steps, 0)
	if err != nil {
		return nil, err
	}
	timesteps, sigmas := s.timesteps[:1:1], s.sigmas[:1:1]
	for i := 1; i < len(s.timesteps); i++ {
		timesteps = append(timesteps, s.timesteps[i], s.timesteps[i])
		sigmas = append(sigmas, s.sigmas[i], s.sigmas[i])
	}
	s.timesteps, s.sigmas = timesteps, append(sigmas, 0)
	return &heun{exploding: s, cfg: cfg}, nil
}

func (s *heun) Begin(strength float64) int { return 2 * s.exploding.Begin(strength) }

func (s *heun) Step(sample, modelOutput []float32, i int) error {
	if err := s.exploding.check(sample, modelOutput, i); err != nil {
		return err
	}
	if err := s.sequence.check(i, len(sample)); err != nil {
		return err
	}
	second := i%2 == 1
	if s.taken == 0 {
		if second {
			return fmt.Errorf("scheduler: heun cannot begin at step %d, the second half of one", i)
		}
		s.before, s.slope = make([]float64, len(sample)), make([]float64, len(sample))
	}
	ks, ko := s.x0Weights(i)
	for j := range sample {
		x := float64(sample[j])
		slope := (x - s.cfg.clip(ks*x+ko*float64(modelOutput[j]))) / s.sigmas[i]
		if second {
			sample[j] = float32(s.before[j] + (s.slope[j]+slope)/2*(s.sigmas[i]-s.sigmas[i-1]))
			continue
		}
		s.before[j], s.slope[j] = x, slope
		sample[j] = float32(x + slope*(s.sigmas[i+1]-s.sigmas[i]))
	}
	s.advance(i, len(sample))
	return nil
}

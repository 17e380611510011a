package scheduler

import (
	"fmt"
	"math"
)

// lcm is multistep consistency sampling (Luo et al. 2023, algorithm 3) of a network distilled to jump to x_0.
type lcm struct {
	preserving
	noise
	cfg Config
}

func newLCM(cfg Config, steps int) (Scheduler, error) {
	if err := cfg.checkFirst(); err != nil {
		return nil, err
	}
	original := cfg.OriginalInferenceSteps
	switch {
	case original < 1 || original > cfg.NumTrainTimesteps:
		return nil, fmt.Errorf("scheduler config: original_inference_steps %d is not in 1…%d", original, cfg.NumTrainTimesteps)
	case steps > original:
		return nil, fmt.Errorf("scheduler: lcm with %d steps, original_inference_steps is %d, take fewer steps", steps, original)
	case !(cfg.TimestepScaling > 0):
		return nil, fmt.Errorf("scheduler config: timestep_scaling %g is not positive", cfg.TimestepScaling)
	}
	s := &lcm{preserving: preserving{plan: plan{steps: steps}}, cfg: cfg}
	bar := cfg.AlphasCumprod()
	for i := range steps {
		skipped := int(float64(i) * (float64(original) / float64(steps)))
		t := (original-skipped)*(cfg.NumTrainTimesteps/original) - 1
		s.timesteps = append(s.timesteps, float64(t))
		s.alphas = append(s.alphas, bar[t])
	}
	return s, nil
}

func (s *lcm) Step(sample, modelOutput []float32, i int) error {
	if err := s.check(sample, modelOutput, i); err != nil {
		return err
	}
	toSignal, toNoise := 1.0, 0.0
	var z []float32
	if i+1 < len(s.timesteps) {
		var err error
		if z, err = s.draw(len(sample)); err != nil {
			return err
		}
		toSignal, toNoise = math.Sqrt(s.alphas[i+1]), math.Sqrt(1-s.alphas[i+1])
	}
	const data = 0.5 // σ_data of the boundary condition
	t := s.timesteps[i] * s.cfg.TimestepScaling
	skip, out := data*data/(t*t+data*data), t/math.Hypot(t, data)
	ks, ko := x0Weights(s.cfg.PredictionType, math.Sqrt(s.alphas[i]), math.Sqrt(1-s.alphas[i]))
	for j := range sample {
		x := float64(sample[j])
		y := toSignal * (out*s.cfg.clip(ks*x+ko*float64(modelOutput[j])) + skip*x)
		if z != nil {
			y += toNoise * float64(z[j])
		}
		sample[j] = float32(y)
	}
	return nil
}

package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// pndm holds the pseudo numerical methods for diffusion models (Liu et al. 2022): linear multistep (PLMS, algorithm 2)
// after a first step that is taken twice or, without skip_prk_steps, after three of Runge-Kutta, four runs each.
type pndm struct {
	preserving
	sequence
	cfg     Config
	bar     []float64
	final   float64     // ᾱ of timesteps before the first
	stride  int         // timesteps a step spans
	kutta   int         // runs that are Runge-Kutta's
	outputs [][]float32 // of the network, newest last, four at most
	before  []float32   // the sample that the step begins at, for steps of several runs
	sum     []float64   // of a Runge-Kutta step
}

func newPNDM(cfg Config, steps int) (Scheduler, error) {
	ts, err := cfg.whole(steps)
	if err != nil {
		return nil, err
	}
	s := &pndm{cfg: cfg, bar: cfg.AlphasCumprod(), stride: cfg.NumTrainTimesteps / steps}
	s.final = cfg.finalAlpha(s.bar)
	half := float64(s.stride / 2)
	switch {
	case cfg.SkipPRKSteps && len(ts) > 1:
		ts = slices.Insert(ts, 2, ts[1])
	case !cfg.SkipPRKSteps:
		if len(ts) < 4 {
			return nil, fmt.Errorf("scheduler: pndm without skip_prk_steps takes 4 steps at least, not %d", steps)
		}
		for k := 2; k >= 0; k-- {
			ts = slices.Insert(ts, k+1, ts[k+1]+half, ts[k+1]+half, ts[k+1])
		}
		s.kutta = 12
	}
	s.plan = plan{ts, steps}
	for _, t := range ts {
		if int(t) >= len(s.bar) {
			return nil, fmt.Errorf("scheduler: pndm with %d steps and steps_offset %d starts past timestep %d", steps, cfg.StepsOffset, len(s.bar)-1)
		}
		s.alphas = append(s.alphas, s.bar[int(t)])
	}
	return s, nil
}

func (s *pndm) Step(sample, modelOutput []float32, i int) error {
	if err := s.preserving.check(sample, modelOutput, i); err != nil {
		return err
	}
	if err := s.sequence.check(i, len(sample)); err != nil {
		return err
	}
	if s.taken == 0 && i > 0 && s.kutta > 0 {
		return fmt.Errorf("scheduler: pndm without skip_prk_steps cannot begin at step %d", i)
	}
	if s.taken < s.kutta {
		s.rungeKutta(sample, modelOutput, i)
	} else {
		s.linear(sample, modelOutput, i)
	}
	s.advance(i, len(sample))
	return nil
}

// rungeKutta takes run i of the first three steps: Runge-Kutta's four slopes.
func (s *pndm) rungeKutta(sample, modelOutput []float32, i int) {
	weight := []float64{1. / 6, 1. / 3, 1. / 3, 1. / 6}[i%4]
	if i%4 == 0 {
		s.remember(modelOutput)
		s.before, s.sum = slices.Clone(sample), make([]float64, len(sample))
	}
	for j, out := range modelOutput {
		s.sum[j] += weight * float64(out)
	}
	from, to := int(s.timesteps[i/4*4]), int(s.timesteps[i])
	if i%2 == 0 {
		to -= s.stride / 2
	}
	slope := func(j int) float64 { return float64(modelOutput[j]) }
	if i%4 == 3 {
		slope = func(j int) float64 { return s.sum[j] }
	}
	s.transfer(sample, s.before, from, to, slope)
}

// linear takes a step by the slopes of up to four runs (Adams and Bashforth). The second run of a walk without
// Runge-Kutta takes the first step again, by the mean slope of its ends.
func (s *pndm) linear(sample, modelOutput []float32, i int) {
	from, before := int(s.timesteps[i]), sample
	to := from - s.stride
	o := s.outputs
	var weights []float64 // of the outputs, newest last
	if s.taken == 1 {
		from, to = from+s.stride, from
		before = s.before
		o, weights = [][]float32{o[0], modelOutput}, []float64{0.5, 0.5}
	} else {
		o = s.remember(modelOutput)
		weights = [][]float64{{1}, {-1. / 2, 3. / 2}, {5. / 12, -16. / 12, 23. / 12}, {-9. / 24, 37. / 24, -59. / 24, 55. / 24}}[len(o)-1]
	}
	if s.taken == 0 {
		s.before = slices.Clone(sample)
	}
	s.transfer(sample, before, from, to, func(j int) (sum float64) {
		for k, w := range weights {
			sum += w * float64(o[k][j])
		}
		return sum
	})
}

// remember appends an output and returns the latest four.
func (s *pndm) remember(modelOutput []float32) [][]float32 {
	if len(s.outputs) < 4 {
		s.outputs = append(s.outputs, slices.Clone(modelOutput))
		return s.outputs
	}
	oldest := s.outputs[0]
	copy(s.outputs, s.outputs[1:])
	copy(oldest, modelOutput)
	s.outputs[3] = oldest
	return s.outputs
}

// transfer writes to dst where slope, in the network's prediction, leads the sample before (eq. 11).
func (s *pndm) transfer(dst, before []float32, from, to int, slope func(j int) float64) {
	a, b := max(s.bar[min(from, len(s.bar)-1)], leastAlpha), s.final
	if to >= 0 {
		b = max(s.bar[to], leastAlpha)
	}
	ks, ko := epsWeights(s.cfg.PredictionType, math.Sqrt(a), math.Sqrt(1-a))
	keep := math.Sqrt(b / a)
	toEps := (a - b) / (a*math.Sqrt(1-b) + math.Sqrt(a*(1-a)*b))
	for j := range dst {
		x := float64(before[j])
		dst[j] = float32(keep*x + toEps*(ks*x+ko*slope(j)))
	}
}

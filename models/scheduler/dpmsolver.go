package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// dpmSolver is DPM-Solver++ 2M (Lu et al. 2022, algorithm 2), multistep on the predicted x_0.
type dpmSolver struct {
	cfg       Config
	timesteps []float64
	sigmas    []float64 // one more than timesteps
	x0        []float64 // x_0 predicted by the step before
	done      int       // the step before, -1 at first
}

func newDPMSolver(cfg Config, steps int) (Scheduler, error) {
	if cfg.SolverOrder != 1 && cfg.SolverOrder != 2 {
		return nil, fmt.Errorf("scheduler config: solver_order %d is not 1 or 2", cfg.SolverOrder)
	}
	spacing := cfg.TimestepSpacing
	if spacing == "" {
		spacing = "linspace"
	}
	trained := cfg.sigmas()
	s := &dpmSolver{cfg: cfg, done: -1}
	if cfg.UseKarrasSigmas {
		s.sigmas = karras(trained[len(trained)-1], trained[0], steps)
		for _, sigma := range s.sigmas {
			t := timestepOf(sigma, trained)
			if cfg.BetaSchedule != "squaredcos_cap_v2" {
				t = math.RoundToEven(t)
			}
			s.timesteps = append(s.timesteps, math.Floor(t))
		}
	} else {
		last := len(trained)
		if cfg.LambdaMinClipped != nil { // λ = -log σ
			last = sort.Search(last, func(i int) bool { return -math.Log(trained[i]) < *cfg.LambdaMinClipped })
		}
		if last < 2 && cfg.LambdaMinClipped != nil {
			return nil, errors.New("scheduler config: lambda_min_clipped leaves no timesteps")
		}
		for _, t := range cfg.grid(spacing, last, steps+1, steps) {
			t = math.RoundToEven(t)
			s.timesteps = append(s.timesteps, t)
			s.sigmas = append(s.sigmas, interpolate(trained, t))
		}
	}
	s.sigmas = append(s.sigmas, finalSigma(cfg, trained))
	if err := checkFalling(s.sigmas[:len(s.timesteps)]); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *dpmSolver) Timesteps() []float64 { return slices.Clone(s.timesteps) }

func (s *dpmSolver) InitNoiseSigma() float64 { return 1 }

func (s *dpmSolver) ScaleInput(dst, sample []float32, i int) { copy(dst, sample) }

func (s *dpmSolver) Step(sample, modelOutput []float32, i int) error {
	if err := checkStep(sample, modelOutput, i, len(s.timesteps)); err != nil {
		return err
	}
	switch {
	case s.done >= 0 && i != s.done+1:
		return fmt.Errorf("scheduler: dpmsolver++ step %d after step %d", i, s.done)
	case s.x0 == nil:
		s.x0 = make([]float64, len(sample))
	case len(s.x0) != len(sample):
		return fmt.Errorf("scheduler: step %d: sample has %d values, it had %d", i, len(sample), len(s.x0))
	}
	signal, noise := normalized(s.sigmas[i])
	ks, ko := x0Weights(s.cfg.PredictionType, signal, noise)
	keep, toX0, toSlope := s.weights(i)
	for j := range sample {
		x := float64(sample[j])
		x0 := ks*x + ko*float64(modelOutput[j])
		sample[j] = float32(keep*x + toX0*x0 + toSlope*(x0-s.x0[j]))
		s.x0[j] = x0
	}
	s.done = i
	return nil
}

// weights returns the factors of x_{i+1} = keep·x_i + toX0·x_0 + toSlope·(x_0 - x_0 of the step before).
func (s *dpmSolver) weights(i int) (keep, toX0, toSlope float64) {
	from, to := s.sigmas[i], s.sigmas[i+1]
	alpha, noise := normalized(to)
	_, noiseBefore := normalized(from)
	ratio := to / from // e^-h of the paper
	keep, toX0 = noise/noiseBefore, alpha*(1-ratio)
	if s.firstOrder(i) {
		return keep, toX0, 0
	}
	h, before := -math.Log(ratio), math.Log(s.sigmas[i-1]/from)
	slope := h / before // 1/r_0
	if h != 0 && s.cfg.SolverType == "heun" {
		return keep, toX0, alpha * (1 - (1-ratio)/h) * slope
	}
	return keep, toX0, toX0 / 2 * slope
}

// firstOrder tells where the second-order formula has no earlier step or is known to be unstable.
func (s *dpmSolver) firstOrder(i int) bool {
	if s.cfg.SolverOrder == 1 || s.done < 0 {
		return true
	}
	steps := len(s.timesteps)
	return i == steps-1 && (s.cfg.EulerAtFinal || s.sigmas[steps] == 0 || s.cfg.LowerOrderFinal && steps < 15)
}

// checkFalling refuses levels that stand still, which happens where steps nearly exhaust the training schedule.
func checkFalling(sigmas []float64) error {
	for i := 1; i < len(sigmas); i++ {
		if !(sigmas[i] < sigmas[i-1]) {
			return fmt.Errorf("scheduler: dpmsolver++ with %d steps repeats a noise level, take fewer steps", len(sigmas))
		}
	}
	return nil
}

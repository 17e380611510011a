package scheduler

import (
	"errors"
	"math"
	"strings"
)

// dpmSolver is the multistep DPM-Solver (Lu et al. 2022, algorithms 1 and 2 of DPM-Solver++), up to order 3, for the
// ODE and the SDE.
type dpmSolver struct {
	multistep
	noise *noise // of the SDE, else nil
}

// sdeSolver is a dpmSolver that draws.
type sdeSolver struct{ *dpmSolver }

func (s sdeSolver) SetNoise(normal func(dst []float32)) { s.noise.SetNoise(normal) }

func newDPMSolver(cfg Config, steps int) (Scheduler, error) {
	if cfg.AlgorithmType == "" || cfg.AlgorithmType == "deis" {
		cfg.AlgorithmType = "dpmsolver++"
	}
	if cfg.AlgorithmType == "sde-dpmsolver" && cfg.SolverOrder == 3 {
		return nil, errors.New("scheduler config: solver_order 3 is not known for algorithm_type sde-dpmsolver")
	}
	m, err := newMultistep(cfg, steps, strings.HasSuffix(cfg.AlgorithmType, "++"))
	if err != nil {
		return nil, err
	}
	s := &dpmSolver{multistep: m}
	if cfg.BetaSchedule == "squaredcos_cap_v2" && cfg.UseKarrasSigmas { // as diffusers cuts, not rounds, here
		trained := cfg.sigmas()
		for i, sigma := range s.sigmas[:len(s.timesteps)] {
			s.timesteps[i] = math.Floor(timestepOf(sigma, trained))
		}
	}
	if strings.HasPrefix(cfg.AlgorithmType, "sde-") {
		s.noise = &noise{}
		return sdeSolver{s}, nil
	}
	return s, nil
}

func (s *dpmSolver) Step(sample, modelOutput []float32, i int) error {
	if err := s.begin(sample, modelOutput, i); err != nil {
		return err
	}
	var z []float32
	if s.noise != nil {
		var err error
		if z, err = s.noise.draw(len(sample)); err != nil {
			return err
		}
	}
	ks, ko := s.solvedWeights(i)
	w := s.weights(i, s.order(i))
	now, last, older := s.solved[0], s.solved[1], s.solved[min(2, s.cfg.SolverOrder)]
	for j := range sample {
		x := float64(sample[j])
		m := ks*x + ko*float64(modelOutput[j])
		now[j] = m
		y := w.keep*x + w.now*m + w.slope*(m-last[j]) + w.bend*(last[j]-older[j])
		if z != nil {
			y += w.noise * float64(z[j])
		}
		sample[j] = float32(y)
	}
	s.advance(i, len(sample))
	return nil
}

// order is that of the formula for step i: as high as there are earlier steps, lower where it is known to be unstable.
func (s *dpmSolver) order(i int) int {
	steps, order := len(s.timesteps), min(s.cfg.SolverOrder, s.taken+1)
	few := s.cfg.LowerOrderFinal && steps < 15
	switch {
	case s.sigmas[i+1] == s.sigmas[i], i == steps-1 && (s.cfg.EulerAtFinal || few || s.sigmas[steps] == 0):
		return 1
	case i == steps-2 && few:
		return min(order, 2)
	}
	return order
}

// solverWeights are the factors of x' = keep·x + now·m_0 + slope·(m_0 - m_1) + bend·(m_1 - m_2) + noise·z, where m_0,
// m_1, … are what is solved for, newest first.
type solverWeights struct{ keep, now, slope, bend, noise float64 }

func (s *dpmSolver) weights(i, order int) solverWeights {
	from, to := s.sigmas[i], s.sigmas[i+1]
	signal, noise := normalized(from)
	toSignal, toNoise := normalized(to)
	ratio := to / from // e^-h of the paper
	h := -math.Log(ratio)
	var w solverWeights
	var first, second float64 // factors of the derivatives by λ, times h and h²
	switch s.cfg.AlgorithmType {
	case "dpmsolver":
		grown := 1/ratio - 1
		w = solverWeights{keep: toSignal / signal, now: -toNoise * grown}
		first, second = -toNoise*(grown/h-1), -toNoise*((grown-h)/(h*h)-0.5)
	case "sde-dpmsolver":
		grown := 1/ratio - 1
		w = solverWeights{keep: toSignal / signal, now: -2 * toNoise * grown, noise: toNoise * math.Sqrt(1/(ratio*ratio)-1)}
		first = -2 * toNoise * (grown/h - 1)
	case "sde-dpmsolver++":
		shrunk := 1 - ratio*ratio
		w = solverWeights{keep: toNoise / noise * ratio, now: toSignal * shrunk, noise: toNoise * math.Sqrt(shrunk)}
		first, second = toSignal*(1-shrunk/(2*h)), toSignal*((shrunk-2*h)/(4*h*h)-0.5)
	default:
		shrunk := 1 - ratio
		w = solverWeights{keep: toNoise / noise, now: toSignal * shrunk}
		first, second = toSignal*(1-shrunk/h), toSignal*((shrunk-h)/(h*h)+0.5)
	}
	if order == 2 && s.cfg.SolverType != "heun" {
		first = w.now / 2 // the midpoint rule
	}
	if order > 1 {
		r0 := (s.lambda(i) - s.lambda(i-1)) / h
		w.slope = first / r0
		if order > 2 {
			r1 := (s.lambda(i-1) - s.lambda(i-2)) / h
			bend := (first*r0 + second) / (r0 + r1)
			w.slope, w.bend = (first+bend)/r0, -bend/r1
		}
	}
	return w
}

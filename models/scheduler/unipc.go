package scheduler

import (
	"math"
	"slices"
)

// uniPC is the unified predictor-corrector (Zhao et al. 2023, algorithms 1 and 2): a step predicts by the outputs so
// far, and the step after first corrects it by the output at its end.
type uniPC struct {
	multistep
	last  []float64 // the corrected sample that the step before began at
	order int       // of the step before
}

func newUniPC(cfg Config, steps int) (Scheduler, error) {
	cfg.LambdaMinClipped = nil // a key of other classes
	m, err := newMultistep(cfg, steps, cfg.PredictsX0)
	if err != nil {
		return nil, err
	}
	if cfg.UseKarrasSigmas && cfg.FinalSigmasType == "sigma_min" { // Karras' own, here
		m.sigmas[len(m.timesteps)] = m.sigmas[len(m.timesteps)-1]
	}
	return &uniPC{multistep: m}, nil
}

func (s *uniPC) Step(sample, modelOutput []float32, i int) error {
	if err := s.begin(sample, modelOutput, i); err != nil {
		return err
	}
	corrects := s.taken > 0 && !slices.Contains(s.cfg.DisableCorrector, i-1)
	if s.taken == 0 {
		s.last = make([]float64, len(sample))
	}
	order := min(s.cfg.SolverOrder, s.taken+1)
	if left := len(s.timesteps) - i; s.cfg.LowerOrderFinal || s.sigmas[i+1] == 0 || s.sigmas[i+1] == s.sigmas[i] {
		order = min(order, left)
	}
	var correct updateWeights
	if corrects {
		correct = s.weights(i-1, s.order, true)
	}
	predict := s.weights(i, order, false)
	ks, ko := s.solvedWeights(i)
	for j := range sample {
		x := float64(sample[j])
		s.solved[0][j] = ks*x + ko*float64(modelOutput[j])
		if corrects {
			x = correct.apply(s.last[j], s.solved[1:], j) + correct.end*(s.solved[0][j]-s.solved[1][j])
		}
		s.last[j] = x
		sample[j] = float32(predict.apply(x, s.solved, j))
	}
	s.order = order
	s.advance(i, len(sample))
	return nil
}

// updateWeights are the factors of x' = keep·x + now·m_0 + Σ_k slopes[k-1]·(m_k - m_0) + end·(m' - m_0), where m_0, m_1,
// … are what is solved for, newest first, and m' that at the end of the step.
type updateWeights struct {
	keep, now float64
	slopes    []float64
	end       float64
}

func (w updateWeights) apply(x float64, solved [][]float64, j int) float64 {
	m := solved[0][j]
	y := w.keep*x + w.now*m
	for k, slope := range w.slopes {
		y += slope * (solved[k+1][j] - m)
	}
	return y
}

// weights of the update of an order from level i to the next.
func (s *uniPC) weights(i, order int, corrects bool) updateWeights {
	from, to := s.sigmas[i], s.sigmas[i+1]
	signal, noise := normalized(from)
	toSignal, toNoise := normalized(to)
	h := math.Log(from / to)
	keep, scale, hh := toNoise/noise, -toSignal, -h
	if !s.solveX0 {
		keep, scale, hh = toSignal/signal, -toNoise, h
	}
	grown := math.Expm1(hh)
	w := updateWeights{keep: keep, now: scale * grown}
	b := grown // B(h)
	if s.cfg.SolverType == "bh1" {
		b = hh
	}
	rs := make([]float64, order)
	for k := range order - 1 {
		rs[k] = (s.lambda(i-1-k) - s.lambda(i)) / h
	}
	rs[order-1] = 1
	rhos := s.rhos(rs, hh, b, corrects)
	for k, rho := range rhos[:order-1] {
		w.slopes = append(w.slopes, scale*b*rho/rs[k])
	}
	if corrects {
		w.end = scale * b * rhos[order-1]
	}
	return w
}

// rhos solves the order conditions Σ_k r_k^n·ρ_k = (n+1)!·φ_{n+2}·h/B (eq. 5 and 9), or takes the short-cuts of order 1 and 2.
func (s *uniPC) rhos(rs []float64, hh, b float64, corrects bool) []float64 {
	order := len(rs)
	switch {
	case order == 1:
		return []float64{0.5}
	case order == 2 && !corrects:
		return []float64{0.5, 0}
	}
	unknowns := order
	if !corrects {
		unknowns-- // the end of the step is not known yet
	}
	rows := make([][]float64, unknowns) // augmented
	phi, factorial := math.Expm1(hh)/hh-1, 1.0
	for n := range rows {
		for _, r := range rs[:unknowns] {
			rows[n] = append(rows[n], math.Pow(r, float64(n)))
		}
		rows[n] = append(rows[n], phi*factorial/b)
		factorial *= float64(n + 2)
		phi = phi/hh - 1/factorial
	}
	return append(eliminate(rows), 0)
}

// eliminate solves a small regular system, given with its right side as the last column, by Gauss and Jordan. The
// leading minors of order conditions are Vandermonde's, so pivots are never zero.
func eliminate(rows [][]float64) []float64 {
	for p := range rows {
		for r := range rows {
			if r == p {
				continue
			}
			f := rows[r][p] / rows[p][p]
			for c := p; c < len(rows[r]); c++ {
				rows[r][c] -= f * rows[p][c]
			}
		}
	}
	x := make([]float64, len(rows))
	for p := range rows {
		x[p] = rows[p][len(rows)] / rows[p][p]
	}
	return x
}

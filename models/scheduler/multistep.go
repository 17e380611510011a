package scheduler

import (
	"fmt"
	"math"
)

// multistep is what DPM-Solver and UniPC share: they solve for x_0, or for ε, as a function of λ = -log σ, through its
// values at earlier steps.
type multistep struct {
	preserving
	sequence
	cfg     Config
	solveX0 bool
	sigmas  []float64   // one more than timesteps
	solved  [][]float64 // x_0 or ε: a place for the step being taken, then of earlier steps, newest first
}

func newMultistep(cfg Config, steps int, solveX0 bool) (multistep, error) {
	if cfg.SolverOrder < 1 || cfg.SolverOrder > 3 {
		return multistep{}, fmt.Errorf("scheduler config: solver_order %d is not 1, 2 or 3", cfg.SolverOrder)
	}
	timesteps, sigmas, err := cfg.solverLevels(steps)
	if err != nil {
		return multistep{}, err
	}
	s := multistep{preserving: preserving{plan: plan{timesteps, steps}}, cfg: cfg, solveX0: solveX0, sigmas: sigmas}
	if !solveX0 && s.sigmas[len(timesteps)] == 0 {
		return multistep{}, fmt.Errorf("scheduler config: final_sigmas_type zero, where ε is solved for (algorithm_type %q, predict_x0 %t), has no last step: set sigma_min",
			cfg.AlgorithmType, cfg.PredictsX0)
	}
	for _, sigma := range sigmas[:len(timesteps)] {
		signal, _ := normalized(sigma)
		s.alphas = append(s.alphas, signal*signal)
	}
	return s, nil
}

// begin checks a step and makes room for what it solves for.
func (s *multistep) begin(sample, modelOutput []float32, i int) error {
	if err := s.preserving.check(sample, modelOutput, i); err != nil {
		return err
	}
	if err := s.sequence.check(i, len(sample)); err != nil {
		return err
	}
	if s.taken == 0 {
		s.solved = make([][]float64, s.cfg.SolverOrder+1)
		for k := range s.solved {
			s.solved[k] = make([]float64, len(sample))
		}
		return nil
	}
	oldest := s.solved[len(s.solved)-1]
	copy(s.solved[1:], s.solved)
	s.solved[0] = oldest
	return nil
}

// solvedWeights returns the factors of x_0, or ε, = ks·sample + ko·output at step i.
func (s *multistep) solvedWeights(i int) (ks, ko float64) {
	signal, noise := normalized(s.sigmas[i])
	if s.solveX0 {
		return x0Weights(s.cfg.PredictionType, signal, noise)
	}
	return epsWeights(s.cfg.PredictionType, signal, noise)
}

// lambda is half the logarithm of the signal-to-noise ratio at level k.
func (s *multistep) lambda(k int) float64 { return -math.Log(s.sigmas[k]) }

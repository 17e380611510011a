package scheduler

import (
	"fmt"
	"math"
	"slices"
)

// inert are published keys that have to hold the one value with which they change nothing.
type inert struct {
	Thresholding             bool     `json:"thresholding"`
	DynamicThresholdingRatio float64  `json:"dynamic_thresholding_ratio"`
	SampleMaxValue           float64  `json:"sample_max_value"`
	InterpolationType        string   `json:"interpolation_type"`
	TimestepType             string   `json:"timestep_type"`
	UseExponentialSigmas     bool     `json:"use_exponential_sigmas"`
	UseBetaSigmas            bool     `json:"use_beta_sigmas"`
	UseLuLambdas             bool     `json:"use_lu_lambdas"`
	UseFlowSigmas            bool     `json:"use_flow_sigmas"`
	FlowShift                float64  `json:"flow_shift"`
	UseDynamicShifting       bool     `json:"use_dynamic_shifting"`
	TimeShiftType            string   `json:"time_shift_type"`
	ShiftTerminal            *float64 `json:"shift_terminal"`
	SolverP                  any      `json:"solver_p"`
}

func (f inert) check() error {
	for _, s := range []struct {
		key string
		on  bool
	}{
		{"thresholding", f.Thresholding},
		{"use_exponential_sigmas", f.UseExponentialSigmas},
		{"use_beta_sigmas", f.UseBetaSigmas},
		{"use_lu_lambdas", f.UseLuLambdas},
		{"use_flow_sigmas", f.UseFlowSigmas},
		{"use_dynamic_shifting", f.UseDynamicShifting},
		{"shift_terminal", f.ShiftTerminal != nil},
		{"solver_p", f.SolverP != nil},
		{"interpolation_type " + f.InterpolationType, f.InterpolationType != "" && f.InterpolationType != "linear"},
		{"timestep_type " + f.TimestepType, f.TimestepType != "" && f.TimestepType != "discrete"},
	} {
		if s.on {
			return fmt.Errorf("scheduler config: %s is not supported", s.key)
		}
	}
	return nil
}

// check reports the first key whose value has no meaning.
func (c Config) check() error {
	for _, s := range []struct {
		key, value string
		allowed    []string
	}{
		{"beta_schedule", c.BetaSchedule, []string{"linear", "scaled_linear", "squaredcos_cap_v2"}},
		{"prediction_type", c.PredictionType, []string{Epsilon, VPrediction, Sample}},
		{"timestep_spacing", c.TimestepSpacing, []string{"", "leading", "trailing", "linspace"}},
		{"variance_type", c.VarianceType, []string{"", "fixed_small", "fixed_small_log", "fixed_large"}},
		{"final_sigmas_type", c.FinalSigmasType, []string{"", "zero", "sigma_min"}},
		{"algorithm_type", c.AlgorithmType, []string{"", "dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver", "deis"}},
		{"solver_type", c.SolverType, []string{"", "midpoint", "heun", "logrho", "bh1", "bh2"}},
	} {
		if !slices.Contains(s.allowed, s.value) {
			return fmt.Errorf("scheduler config: %s %q is not one of %q", s.key, s.value, s.allowed)
		}
	}
	const longest = 1_000_000
	switch n := c.NumTrainTimesteps; {
	case n < 1 || n > longest:
		return fmt.Errorf("scheduler config: num_train_timesteps %d is not in 1…%d", n, longest)
	case c.TrainedBetas != nil && len(c.TrainedBetas) != n:
		return fmt.Errorf("scheduler config: trained_betas has %d values, num_train_timesteps is %d", len(c.TrainedBetas), n)
	case !(0 < c.BetaStart && c.BetaStart <= c.BetaEnd && c.BetaEnd < 1):
		return fmt.Errorf("scheduler config: beta_start %g and beta_end %g are not 0 < start ≤ end < 1", c.BetaStart, c.BetaEnd)
	case c.StepsOffset < 0 || c.StepsOffset >= n:
		return fmt.Errorf("scheduler config: steps_offset %d is not a timestep", c.StepsOffset)
	case c.ClipSample && !(c.ClipSampleRange > 0):
		return fmt.Errorf("scheduler config: clip_sample_range %g is not positive", c.ClipSampleRange)
	}
	for i, b := range c.TrainedBetas {
		if !(0 < b && b < 1) {
			return fmt.Errorf("scheduler config: trained_betas[%d] = %g is not between 0 and 1", i, b)
		}
	}
	for _, s := range []*float64{c.SigmaMin, c.SigmaMax} {
		if s != nil && (!(*s > 0) || math.IsInf(*s, 0)) {
			return fmt.Errorf("scheduler config: sigma_min or sigma_max %g is not positive", *s)
		}
	}
	return nil
}

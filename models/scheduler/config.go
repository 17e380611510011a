// Package scheduler holds noise schedules and the samplers that walk them, in float64 and without a network:
// DDIM, Euler and DPM-Solver++ 2M, equal to diffusers' for the same scheduler_config.json.
//
// Symbols: x_t = √ᾱ_t·x_0 + √(1-ᾱ_t)·ε is a sample with noise, ᾱ the cumulative product of 1-β, and
// σ = √((1-ᾱ)/ᾱ) the noise of the same sample divided by √ᾱ.
package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
)

// Values of Config.PredictionType: what the network predicts.
const (
	Epsilon     = "epsilon"      // the noise ε
	VPrediction = "v_prediction" // v = √ᾱ·ε - √(1-ᾱ)·x_0 (Salimans and Ho 2022, §4)
	Sample      = "sample"       // x_0
)

// Config is a scheduler_config.json under its published keys. Start from Default or ParseConfig; New checks it.
type Config struct {
	ClassName           string    `json:"_class_name"`                  // diffusers' class; picks the sampler when New gets no name
	DiffusersVersion    string    `json:"_diffusers_version,omitempty"` // not read
	NumTrainTimesteps   int       `json:"num_train_timesteps"`          // T, length of the training schedule
	BetaStart           float64   `json:"beta_start"`                   // β of the first timestep
	BetaEnd             float64   `json:"beta_end"`                     // β of the last
	BetaSchedule        string    `json:"beta_schedule"`                // linear, scaled_linear or squaredcos_cap_v2
	TrainedBetas        []float64 `json:"trained_betas"`                // all T of β, instead of the three keys above
	PredictionType      string    `json:"prediction_type"`              // Epsilon, VPrediction or Sample
	TimestepSpacing     string    `json:"timestep_spacing,omitempty"`   // leading, trailing or linspace; empty: the sampler's own
	StepsOffset         int       `json:"steps_offset"`                 // added to timesteps of leading spacing
	RescaleBetasZeroSNR bool      `json:"rescale_betas_zero_snr"`       // no signal at the last timestep (Lin et al. 2023, §3.1)
	SetAlphaToOne       bool      `json:"set_alpha_to_one"`             // DDIM: the last step ends at ᾱ = 1, not at ᾱ_0
	ClipSample          bool      `json:"clip_sample"`                  // DDIM: clip the predicted x_0
	ClipSampleRange     float64   `json:"clip_sample_range,omitempty"`  // to ± this
	UseKarrasSigmas     bool      `json:"use_karras_sigmas"`            // Euler, DPM-Solver++: noise levels of Karras et al. 2022, eq. 5
	SigmaMin            *float64  `json:"sigma_min,omitempty"`          // Euler: smallest Karras σ; null: the schedule's
	SigmaMax            *float64  `json:"sigma_max,omitempty"`          // Euler: largest Karras σ; null: the schedule's
	FinalSigmasType     string    `json:"final_sigmas_type,omitempty"`  // Euler, DPM-Solver++: end at σ = zero or at sigma_min
	AlgorithmType       string    `json:"algorithm_type,omitempty"`     // dpmsolver++ (deis is read as that, as diffusers does)
	SolverOrder         int       `json:"solver_order,omitempty"`       // DPM-Solver++: 1 or 2
	SolverType          string    `json:"solver_type,omitempty"`        // DPM-Solver++: midpoint or heun (logrho, bh1, bh2 are read as midpoint)
	LowerOrderFinal     bool      `json:"lower_order_final"`            // DPM-Solver++: first order in the last of fewer than 15 steps
	EulerAtFinal        bool      `json:"euler_at_final,omitempty"`     // DPM-Solver++: first order in the last step
	LambdaMinClipped    *float64  `json:"lambda_min_clipped,omitempty"` // DPM-Solver++: leave out timesteps whose log(√ᾱ/√(1-ᾱ)) is below; null: none
}

// inert are published keys that have to hold the one value with which they change nothing.
type inert struct {
	Thresholding             bool    `json:"thresholding"`
	DynamicThresholdingRatio float64 `json:"dynamic_thresholding_ratio"`
	SampleMaxValue           float64 `json:"sample_max_value"`
	InterpolationType        string  `json:"interpolation_type"`
	TimestepType             string  `json:"timestep_type"`
	UseExponentialSigmas     bool    `json:"use_exponential_sigmas"`
	UseBetaSigmas            bool    `json:"use_beta_sigmas"`
	UseLuLambdas             bool    `json:"use_lu_lambdas"`
	UseFlowSigmas            bool    `json:"use_flow_sigmas"`
	FlowShift                float64 `json:"flow_shift"`
	UseDynamicShifting       bool    `json:"use_dynamic_shifting"`
	TimeShiftType            string  `json:"time_shift_type"`
	VarianceType             string  `json:"variance_type"`
	SkipPRKSteps             bool    `json:"skip_prk_steps"`
}

// Default is the published schedule of Stable Diffusion 1.5, sampled by DDIM.
func Default() Config {
	c := published("DDIMScheduler")
	c.BetaStart, c.BetaEnd, c.BetaSchedule = 0.00085, 0.012, "scaled_linear"
	c.TimestepSpacing, c.StepsOffset = "leading", 1
	c.SetAlphaToOne, c.ClipSample = false, false
	return c
}

// published are the values diffusers gives to keys that a file of this class leaves out.
func published(class string) Config {
	clips := class == "DDIMScheduler" || class == "DDPMScheduler"
	return Config{
		ClassName: class, NumTrainTimesteps: 1000, BetaStart: 0.0001, BetaEnd: 0.02, BetaSchedule: "linear",
		PredictionType: Epsilon, SetAlphaToOne: class != "PNDMScheduler", ClipSample: clips, ClipSampleRange: 1,
		FinalSigmasType: "zero", AlgorithmType: "dpmsolver++", SolverOrder: 2, SolverType: "midpoint", LowerOrderFinal: true,
	}
}

// minusInfinity is how Python writes a lambda_min_clipped that clips nothing; JSON has no such number.
var minusInfinity = regexp.MustCompile(`("lambda_min_clipped"\s*:\s*)-Infinity`)

// ParseConfig reads a scheduler_config.json. Keys left out take diffusers' defaults of the file's class; an unknown
// key, an unknown value or a setting no sampler here has is an error that names it.
func ParseConfig(data []byte) (Config, error) {
	data = minusInfinity.ReplaceAll(data, []byte("${1}null"))
	var head struct {
		ClassName string `json:"_class_name"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return Config{}, fmt.Errorf("scheduler config: %w", err)
	}
	file := struct {
		Config
		inert
	}{Config: published(head.ClassName)}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return Config{}, fmt.Errorf("scheduler config: %w", err)
	}
	if err := file.inert.check(); err != nil {
		return Config{}, err
	}
	if err := file.Config.check(); err != nil {
		return Config{}, err
	}
	return file.Config, nil
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
		{"interpolation_type " + f.InterpolationType, f.InterpolationType != "" && f.InterpolationType != "linear"},
		{"timestep_type " + f.TimestepType, f.TimestepType != "" && f.TimestepType != "discrete"},
		{"variance_type " + f.VarianceType, f.VarianceType == "learned" || f.VarianceType == "learned_range"},
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
		{"final_sigmas_type", c.FinalSigmasType, []string{"", "zero", "sigma_min"}},
		{"algorithm_type", c.AlgorithmType, []string{"", "dpmsolver++", "deis"}},
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

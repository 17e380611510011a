// Package scheduler holds noise schedules and the samplers that walk them, in float64 and without a network: DDIM, DDPM,
// PNDM, Euler, Euler ancestral, Heun, DPM-Solver (ODE and SDE), UniPC and LCM, equal to diffusers' for the same
// scheduler_config.json.
//
// Symbols: x_t = √ᾱ_t·x_0 + √(1-ᾱ_t)·ε is a sample with noise, ᾱ the cumulative product of 1-β, and
// σ = √((1-ᾱ)/ᾱ) the noise of the same sample divided by √ᾱ.
package scheduler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
)

// Values of Config.PredictionType: what the network predicts.
const (
	Epsilon     = "epsilon"      // the noise ε
	VPrediction = "v_prediction" // v = √ᾱ·ε - √(1-ᾱ)·x_0 (Salimans and Ho 2022, §4)
	Sample      = "sample"       // x_0
)

// Config is a scheduler_config.json under its published keys. Start from Default or ParseConfig; New checks it.
type Config struct {
	ClassName              string    `json:"_class_name"`                        // diffusers' class; picks the sampler when New gets no name
	DiffusersVersion       string    `json:"_diffusers_version,omitempty"`       // not read
	NumTrainTimesteps      int       `json:"num_train_timesteps"`                // T, length of the training schedule
	BetaStart              float64   `json:"beta_start"`                         // β of the first timestep
	BetaEnd                float64   `json:"beta_end"`                           // β of the last
	BetaSchedule           string    `json:"beta_schedule"`                      // linear, scaled_linear or squaredcos_cap_v2
	TrainedBetas           []float64 `json:"trained_betas"`                      // all T of β, instead of the three keys above
	PredictionType         string    `json:"prediction_type"`                    // Epsilon, VPrediction or Sample
	TimestepSpacing        string    `json:"timestep_spacing,omitempty"`         // leading, trailing or linspace; empty: the sampler's own
	StepsOffset            int       `json:"steps_offset"`                       // added to timesteps of leading spacing
	RescaleBetasZeroSNR    bool      `json:"rescale_betas_zero_snr"`             // no signal at the last timestep (Lin et al. 2023, §3.1); for PNDM and Heun too, whose classes in diffusers lack the key
	SetAlphaToOne          bool      `json:"set_alpha_to_one"`                   // DDIM, PNDM: the last step ends at ᾱ = 1, not at ᾱ_0
	ClipSample             bool      `json:"clip_sample"`                        // DDIM, DDPM, Heun, LCM: clip the predicted x_0
	ClipSampleRange        float64   `json:"clip_sample_range,omitempty"`        // to ± this
	VarianceType           string    `json:"variance_type,omitempty"`            // DDPM: fixed_small, fixed_small_log or fixed_large
	SkipPRKSteps           bool      `json:"skip_prk_steps"`                     // PNDM: no Runge-Kutta in the first three steps
	UseKarrasSigmas        bool      `json:"use_karras_sigmas"`                  // Euler, Heun, DPM-Solver, UniPC: noise levels of Karras et al. 2022, eq. 5
	SigmaMin               *float64  `json:"sigma_min,omitempty"`                // smallest Karras σ; null: the schedule's
	SigmaMax               *float64  `json:"sigma_max,omitempty"`                // largest Karras σ; null: the schedule's
	FinalSigmasType        string    `json:"final_sigmas_type,omitempty"`        // Euler, DPM-Solver, UniPC: end at σ = zero or at sigma_min
	AlgorithmType          string    `json:"algorithm_type,omitempty"`           // DPM-Solver: dpmsolver++, dpmsolver, or sde- before either (deis is read as dpmsolver++, as diffusers does)
	SolverOrder            int       `json:"solver_order,omitempty"`             // DPM-Solver, UniPC: 1, 2 or 3
	SolverType             string    `json:"solver_type,omitempty"`              // DPM-Solver: midpoint or heun; UniPC: bh1 or bh2; any other's is read as midpoint, bh2
	LowerOrderFinal        bool      `json:"lower_order_final"`                  // DPM-Solver: falling order in the last of fewer than 15 steps; UniPC: of any
	EulerAtFinal           bool      `json:"euler_at_final,omitempty"`           // DPM-Solver: first order in the last step
	LambdaMinClipped       *float64  `json:"lambda_min_clipped,omitempty"`       // DPM-Solver: leave out timesteps whose log(√ᾱ/√(1-ᾱ)) is below; null: none
	PredictsX0             bool      `json:"predict_x0"`                         // UniPC: solve for x_0, not for ε
	DisableCorrector       []int     `json:"disable_corrector,omitempty"`        // UniPC: steps that the step after does not correct
	OriginalInferenceSteps int       `json:"original_inference_steps,omitempty"` // LCM: steps of the grid that the network was distilled on
	TimestepScaling        float64   `json:"timestep_scaling,omitempty"`         // LCM: of t in the boundary condition
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
	c := Config{
		ClassName: class, NumTrainTimesteps: 1000, BetaStart: 0.0001, BetaEnd: 0.02, BetaSchedule: "linear",
		PredictionType: Epsilon, SetAlphaToOne: true, ClipSampleRange: 1, VarianceType: "fixed_small", SkipPRKSteps: true,
		FinalSigmasType: "zero", AlgorithmType: "dpmsolver++", SolverOrder: 2, SolverType: "midpoint", LowerOrderFinal: true,
		PredictsX0: true, OriginalInferenceSteps: 50, TimestepScaling: 10,
	}
	switch class {
	case "DDIMScheduler", "DDPMScheduler":
		c.ClipSample = true
	case "PNDMScheduler":
		c.SetAlphaToOne, c.SkipPRKSteps = false, false
	case "HeunDiscreteScheduler":
		c.BetaStart, c.BetaEnd = 0.00085, 0.012
	case "LCMScheduler":
		c.BetaStart, c.BetaEnd, c.BetaSchedule = 0.00085, 0.012, "scaled_linear"
	case "UniPCMultistepScheduler":
		c.SolverType = "bh2"
	}
	return c
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

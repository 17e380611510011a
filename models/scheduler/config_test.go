package scheduler

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
)

const stableDiffusion15 = `{
  "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
  "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false, "skip_prk_steps": true,
  "steps_offset": 1, "trained_betas": null, "clip_sample": false
}`

func TestParseConfigOfStableDiffusion15IsDefault(t *testing.T) {
	got := parse(t, stableDiffusion15)
	want := Default()
	want.ClassName, want.DiffusersVersion, want.TimestepSpacing = "PNDMScheduler", "0.6.0", ""
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	s, err := New(got, "", 4)
	if err != nil {
		t.Fatal(err)
	}
	if ts := s.Timesteps(); !slices.Equal(ts, []float64{751, 501, 501, 251, 1}) { // PNDM runs the network once more
		t.Errorf("timesteps %v", ts)
	}
}

func TestConfigSurvivesWriting(t *testing.T) {
	for _, w := range readGolden(t).Walks {
		cfg := parse(t, w.Config)
		text, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(parse(t, string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != string(text) {
			t.Errorf("written %s\nread    %s", text, again)
		}
	}
}

func TestParseConfigNamesWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		``:                                     "scheduler config",
		`[]`:                                   "scheduler config",
		`{"beta_strat": 0.1}`:                  "beta_strat",
		`{"steps_offset": "one"}`:              "steps_offset",
		`{} {}`:                                "after top-level value",
		`{"beta_schedule": "sigmoid"}`:         "sigmoid",
		`{"prediction_type": "flow"}`:          "prediction_type",
		`{"timestep_spacing": "log"}`:          "timestep_spacing",
		`{"algorithm_type": "dpmsolver+++"}`:   "dpmsolver+++",
		`{"solver_type": "bh3"}`:               "bh3",
		`{"solver_p": {"order": 2}}`:           "solver_p",
		`{"shift_terminal": 0.1}`:              "shift_terminal",
		`{"variance_type": "fixed_large_log"}`: "fixed_large_log",
		`{"final_sigmas_type": "one"}`:         "final_sigmas_type",
		`{"num_train_timesteps": 0}`:           "num_train_timesteps",
		`{"num_train_timesteps": 2000000000}`:  "num_train_timesteps",
		`{"beta_start": 0.5, "beta_end": 0.1}`: "beta_start",
		`{"beta_end": 1}`:                      "beta_end",
		`{"trained_betas": [0.1, 0.2]}`:        "trained_betas",
		`{"num_train_timesteps": 2, "trained_betas": [0.1, 1]}`: "trained_betas[1]",
		`{"steps_offset": -1}`:                          "steps_offset",
		`{"sigma_min": -2}`:                             "sigma_min",
		`{"thresholding": true}`:                        "thresholding",
		`{"use_beta_sigmas": true}`:                     "use_beta_sigmas",
		`{"timestep_type": "continuous"}`:               "continuous",
		`{"interpolation_type": "cubic"}`:               "interpolation_type",
		`{"variance_type": "learned"}`:                  "variance_type",
		`{"clip_sample": true, "clip_sample_range": 0}`: "clip_sample_range",
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not name %q", text, err, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	change := func(f func(*Config)) Config {
		c := Default()
		f(&c)
		return c
	}
	least := 50.0
	solver := func(algorithm string, order int, final string) Config {
		return change(func(c *Config) {
			c.ClassName, c.AlgorithmType = "DPMSolverMultistepScheduler", algorithm
			c.SolverOrder, c.FinalSigmasType = order, final
		})
	}
	for _, c := range []struct {
		cfg   Config
		name  string
		steps int
		want  string
	}{
		{Default(), "", 0, "0 steps"},
		{Default(), "euler", -3, "-3 steps"},
		{Default(), "dpmsolver++", 1001, "1001 steps"},
		{Default(), "magic", 10, "magic"},
		{Config{}, "ddim", 10, "beta_schedule"},
		{change(func(c *Config) { c.ClassName = "DEISMultistepScheduler" }), "", 10, "DEISMultistepScheduler"},
		{Default(), "lcm", 51, "original_inference_steps"},
		{change(func(c *Config) { c.OriginalInferenceSteps = 1001 }), "lcm", 4, "original_inference_steps"},
		{change(func(c *Config) { c.TimestepScaling = 0 }), "lcm", 4, "timestep_scaling"},
		{change(func(c *Config) { c.RescaleBetasZeroSNR = true }), "lcm", 4, "rescale_betas_zero_snr"},
		{change(func(c *Config) { c.RescaleBetasZeroSNR = true }), "ddpm", 4, "rescale_betas_zero_snr"},
		{change(func(c *Config) { c.SkipPRKSteps = false }), "pndm", 3, "skip_prk_steps"},
		{change(func(c *Config) { c.PredictsX0 = false }), "unipc", 10, "final_sigmas_type"},
		{change(func(c *Config) { c.SolverOrder = 0 }), "unipc", 10, "solver_order"},
		{change(func(c *Config) { c.UseKarrasSigmas, c.SigmaMin = true, &least }), "unipc", 10, "sigma_min"},
		{solver("dpmsolver", 2, "zero"), "", 10, "final_sigmas_type"},
		{solver("sde-dpmsolver", 3, "sigma_min"), "", 10, "solver_order"},
		{Default(), "ddim", 1000, "steps_offset"},
		{Default(), "dpmsolver++", 1000, "fewer steps"},
		{change(func(c *Config) { c.SolverOrder = 4 }), "dpmsolver++", 10, "solver_order"},
		{change(func(c *Config) { c.LambdaMinClipped = &least }), "dpmsolver++", 10, "lambda_min_clipped"},
		{change(func(c *Config) { c.UseKarrasSigmas, c.SigmaMin = true, &least }), "euler", 10, "sigma_min"},
		{change(func(c *Config) { c.RescaleBetasZeroSNR = true }), "ddim", 10, "rescale_betas_zero_snr"},
	} {
		if s, err := New(c.cfg, c.name, c.steps); err == nil || !strings.Contains(err.Error(), c.want) || s != nil {
			t.Errorf("New(%q, %d) = %v, %v, want an error naming %q", c.name, c.steps, s, err, c.want)
		}
	}
}

func TestTimestepsOutsideTheScheduleCountAsItsEnds(t *testing.T) {
	c := Default()
	if c.SNR(-5) != c.SNR(0) || c.SNR(5000) != c.SNR(999) || !(c.SNR(0) > c.SNR(1)) {
		t.Error("SNR does not clamp, or does not fall")
	}
	one, zero := []float32{1}, []float32{0}
	for _, at := range []float64{math.NaN(), math.Inf(-1), math.Inf(1), -1, 2000} {
		got := []float32{0}
		c.PredictX0(got, one, zero, at)
		if math.IsNaN(float64(got[0])) || got[0] < 1 {
			t.Errorf("PredictX0 at %g = %v", at, got)
		}
	}
	Config{}.AddNoise([]float32{0}, one, zero, 3) // a Config nobody checked must not panic
}

func TestZeroSNRStaysFinite(t *testing.T) {
	c := Default()
	c.RescaleBetasZeroSNR = true
	got := []float32{0}
	c.PredictX0(got, []float32{1}, []float32{0}, 999)
	if math.IsInf(float64(got[0]), 0) || c.AlphasCumprod()[999] != 0 || c.SNR(999) != 0 {
		t.Errorf("x_0 %v, ᾱ %g, SNR %g at the last timestep", got, c.AlphasCumprod()[999], c.SNR(999))
	}
}

func TestKeysLeftOutTakeTheDefaultsOfTheClass(t *testing.T) {
	for class, want := range map[string][2]bool{ // set_alpha_to_one, clip_sample
		"DDIMScheduler":          {true, true},
		"PNDMScheduler":          {false, false},
		"DDPMScheduler":          {true, true},
		"EulerDiscreteScheduler": {true, false},
	} {
		c := parse(t, `{"_class_name": "`+class+`"}`)
		if got := [2]bool{c.SetAlphaToOne, c.ClipSample}; got != want || c.BetaEnd != 0.02 || c.NumTrainTimesteps != 1000 {
			t.Errorf("%s: set_alpha_to_one, clip_sample = %v, want %v", class, got, want)
		}
	}
}

package scheduler

import (
	"encoding/json"
	"fmt"
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

// start returns a sampler that has its noise.
func start(t *testing.T, cfg Config, name string, steps int) Scheduler {
	t.Helper()
	s, err := New(cfg, name, steps)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := s.(Stochastic); ok {
		r.SetNoise(new(draws).normal)
	}
	return s
}

func TestStepRefusesAndLeavesSampleAlone(t *testing.T) {
	for _, name := range Names() {
		s := start(t, Default(), name, 4)
		x, n := []float32{1, 2}, len(s.Timesteps())
		for _, bad := range []error{
			s.Step(x, x[:1], 0), s.Step(x, []float32{1, 1}, n), s.Step(x, []float32{1, 1}, -1),
			s.AddNoise(x, x[:1], 0), s.AddNoise(x, []float32{1, 1}, n), s.AddNoise(x, []float32{1, 1}, -1),
		} {
			if bad == nil {
				t.Errorf("%s: a bad step was taken", name)
			}
		}
		if !slices.Equal(x, []float32{1, 2}) {
			t.Errorf("%s: a refused step changed the sample to %v", name, x)
		}
	}
}

func TestSamplersThatRememberRefuseStepsOutOfOrder(t *testing.T) {
	for _, name := range []string{"pndm", "heun", "dpmsolver++", "sde-dpmsolver++", "unipc"} {
		s := start(t, Default(), name, 4)
		x := []float32{1, 2}
		if err := s.Step(x, []float32{0, 0}, 0); err != nil {
			t.Fatal(err)
		}
		if s.Step(x, []float32{0, 0}, 2) == nil || s.Step(x[:1], []float32{0}, 1) == nil {
			t.Errorf("%s took a step out of order or of another length", name)
		}
	}
	if s := start(t, Default(), "heun", 4); s.Step([]float32{1}, []float32{0}, 3) == nil {
		t.Error("heun began in the middle of a step")
	}
	cfg := Default()
	cfg.SkipPRKSteps = false
	if s := start(t, cfg, "pndm", 4); s.Step([]float32{1}, []float32{0}, 4) == nil {
		t.Error("pndm began after steps of Runge-Kutta")
	}
}

func TestStochasticSamplersNeedNoise(t *testing.T) {
	for _, name := range []string{"ddpm", "euler_ancestral", "sde-dpmsolver++", "sde-dpmsolver++_karras", "lcm"} {
		s, err := New(Default(), name, 4)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.(Stochastic); !ok {
			t.Errorf("%s is not stochastic", name)
		}
		x := []float32{1, 2}
		if err := s.Step(x, []float32{0, 0}, 0); err == nil || !slices.Equal(x, []float32{1, 2}) {
			t.Errorf("%s took a step without noise: %v, %v", name, x, err)
		}
	}
	for _, name := range []string{"ddim", "pndm", "euler", "heun", "dpmsolver++", "dpmsolver++_karras", "unipc"} {
		if s, err := New(Default(), name, 4); err != nil {
			t.Error(err)
		} else if _, ok := s.(Stochastic); ok {
			t.Errorf("%s is stochastic", name)
		}
	}
}

func TestEveryClassHasItsOwnSampler(t *testing.T) {
	classes := map[string]string{
		"DDIMScheduler": "ddim", "DDPMScheduler": "ddpm", "PNDMScheduler": "pndm", "EulerDiscreteScheduler": "euler",
		"EulerAncestralDiscreteScheduler": "euler_ancestral", "HeunDiscreteScheduler": "heun",
		"DPMSolverMultistepScheduler": "dpmsolver++", "UniPCMultistepScheduler": "unipc", "LCMScheduler": "lcm",
	}
	for class, name := range classes {
		cfg := Default()
		cfg.ClassName = class
		got, want := start(t, cfg, "", 4), start(t, Default(), name, 4)
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
			t.Errorf("%s is a %T, want %T", class, got, want)
		}
	}
	karras := Default()
	karras.UseKarrasSigmas = true
	for _, name := range []string{"dpmsolver++", "sde-dpmsolver++"} {
		got, want := start(t, Default(), name+"_karras", 8).Timesteps(), start(t, karras, name, 8).Timesteps()
		if !slices.Equal(got, want) {
			t.Errorf("%s_karras takes %v, want %v", name, got, want)
		}
	}
}

// What the network sees at a step of image to image is the schedule's own noisy sample, whatever the sampler's scale.
func TestAddNoiseIsTheScheduleAtTheStep(t *testing.T) {
	cfg := Default()
	x0, noise := []float32{0.3, -0.7, 1.4}, []float32{-1.2, 0.5, 2}
	for _, name := range Names() {
		s := start(t, cfg, name, 10)
		for i, at := range s.Timesteps() {
			got, want := slices.Clone(x0), make([]float32, 3)
			if err := s.AddNoise(got, noise, i); err != nil {
				t.Fatal(err)
			}
			s.ScaleInput(got, got, i)
			cfg.AddNoise(want, x0, noise, int(at))
			if strings.HasSuffix(name, "karras") { // lie between timesteps
				continue
			}
			compare(t, fmt.Sprintf("%s at %g", name, at), got, want, 1)
		}
	}
}

func TestBegin(t *testing.T) {
	for _, name := range Names() {
		s := start(t, Default(), name, 10)
		for strength, want := range map[float64]int{1: 0, 0.75: 3, 0.7: 3, 0.1: 9} {
			if name == "heun" {
				want *= 2
			}
			if got := s.Begin(strength); got != want {
				t.Errorf("%s: strength %g begins at %d, want %d", name, strength, got, want)
			}
		}
	}
}

// A network that knows the one picture of its data set makes every sampler end there, whatever the prediction type, also
// where image to image begins. Not so PNDM: it averages outputs, which only for ε are all the same, and begins image to
// image as diffusers does, repeating a run that its timesteps no longer repeat.
func TestPerfectNetworkReachesThePicture(t *testing.T) {
	picture := []float32{0.25, -1.5, 0.75}
	for _, name := range Names() {
		for _, prediction := range []string{Epsilon, VPrediction, Sample} {
			if name == "pndm" && prediction != Epsilon {
				continue
			}
			cfg := Default()
			cfg.PredictionType, cfg.SetAlphaToOne, cfg.TimestepSpacing = prediction, true, "trailing"
			for _, strength := range []float64{1, 0.5} {
				if name == "pndm" && strength < 1 {
					continue
				}
				got := walkTo(t, cfg, start(t, cfg, name, 8), picture, strength)
				for i := range got {
					if math.Abs(float64(got[i]-picture[i])) > 1e-5 {
						t.Errorf("%s %s from strength %g ends at %v, want %v", name, prediction, strength, got, picture)
						break
					}
				}
			}
		}
	}
}

func walkTo(t *testing.T, cfg Config, s Scheduler, picture []float32, strength float64) []float32 {
	t.Helper()
	bar := cfg.AlphasCumprod()
	x := []float32{0.5, 1.1, -0.9}
	begin := s.Begin(strength)
	if begin > 0 {
		noise := slices.Clone(x)
		copy(x, picture)
		if err := s.AddNoise(x, noise, begin); err != nil {
			t.Fatal(err)
		}
	} else {
		for i := range x {
			x[i] *= float32(s.InitNoiseSigma())
		}
	}
	in, out, x0 := make([]float32, 3), make([]float32, 3), make([]float32, 3)
	ts := s.Timesteps()
	for i := begin; i < len(ts); i++ {
		at := ts[i]
		s.ScaleInput(in, x, i)
		signal, noise := math.Sqrt(bar[int(at)]), math.Sqrt(1-bar[int(at)])
		for j := range out {
			eps := (float64(in[j]) - signal*float64(picture[j])) / noise
			switch cfg.PredictionType {
			case Epsilon:
				out[j] = float32(eps)
			case VPrediction:
				out[j] = float32(signal*eps - noise*float64(picture[j]))
			default:
				out[j] = picture[j]
			}
		}
		cfg.PredictX0(x0, in, out, at)
		for j := range x0 {
			if math.Abs(float64(x0[j]-picture[j])) > 1e-5 {
				t.Errorf("%s at %g: PredictX0 %v, want %v", cfg.PredictionType, at, x0, picture)
				break
			}
		}
		if err := s.Step(x, out, i); err != nil {
			t.Fatal(err)
		}
	}
	return x
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

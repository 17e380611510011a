package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

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

// Whatever the number of steps, a sampler is refused or walks down the schedule to a number.
func TestEveryNumberOfSteps(t *testing.T) {
	counts := []int{61, 103, 121, 199, 200, 333, 500, 999, 1000} // at 61, 103 and 121, 1000/(1000/n) is not n
	for n := 1; n <= 50; n++ {
		counts = append(counts, n)
	}
	for _, spacing := range []string{"leading", "trailing", "linspace"} {
		for _, zero := range []bool{false, true} {
			cfg := Default()
			cfg.TimestepSpacing, cfg.PredictionType, cfg.RescaleBetasZeroSNR = spacing, VPrediction, zero
			for _, name := range Names() {
				for _, n := range counts {
					walkDown(t, cfg, name, n)
				}
			}
		}
	}
}

func walkDown(t *testing.T, cfg Config, name string, steps int) {
	t.Helper()
	s, err := New(cfg, name, steps)
	if err != nil {
		if steps <= 50 {
			t.Errorf("%s %s refuses %d steps: %v", name, cfg.TimestepSpacing, steps, err)
		}
		return
	}
	if r, ok := s.(Stochastic); ok {
		r.SetNoise(new(draws).normal)
	}
	x, before := []float32{float32(s.InitNoiseSigma())}, float64(cfg.NumTrainTimesteps)
	for i, at := range s.Timesteps() {
		if err := s.Step(x, []float32{0.1}, i); err != nil {
			t.Fatal(err)
		}
		if at < 0 || at > before || x[0]-x[0] != 0 {
			t.Errorf("%s %s, %d steps: step %d is at %g after %g, sample %g", name, cfg.TimestepSpacing, steps, i, at, before, x[0])
			return
		}
		before = at
	}
}

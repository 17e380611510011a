package scheduler

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"
)

// golden is testdata/trajectories.json, written by scripts/golden/scheduler.py.
type golden struct {
	X0        []float32 `json:"x0"`
	Noise     []float32 `json:"noise"`
	Schedules []struct {
		Config string `json:"config"`
		Rows   []struct {
			T            int                  `json:"t"`
			AlphaCumprod float64              `json:"alpha_cumprod"`
			Noisy        []float32            `json:"noisy"`
			X0           map[string][]float32 `json:"x0"`
		} `json:"rows"`
	} `json:"schedules"`
	Walks []struct {
		Config string `json:"config"`
		Runs   []walk `json:"runs"`
	} `json:"walks"`
}

type walk struct {
	Sampler        string      `json:"sampler"`
	Steps          int         `json:"steps"`
	Begin          int         `json:"begin"` // the first step; later than 0, x0 with noise starts the walk
	Draws          int         `json:"draws"` // of noise
	InitNoiseSigma float64     `json:"init_noise_sigma"`
	Timesteps      []float64   `json:"timesteps"`
	Start          []float32   `json:"start"`
	Samples        [][]float32 `json:"samples"` // after every step, or after the last only
}

func readGolden(t *testing.T) golden {
	t.Helper()
	data, err := os.ReadFile("testdata/trajectories.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Walks) == 0 || len(g.Schedules) == 0 {
		t.Fatal("testdata/trajectories.json is empty")
	}
	return g
}

func parse(t *testing.T, text string) Config {
	t.Helper()
	c, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// near allows 1e-5 of the value, and of one for values below one.
func near(got, want float64) bool {
	return math.Abs(got-want) <= 1e-5*max(1, math.Abs(want))
}

// compare allows as much, and what diffusers, computing in float32, rounds off values up to largest.
func compare(t *testing.T, what string, got, want []float32, largest float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		g, w := float64(got[i]), float64(want[i])
		if !near(g, w) && math.Abs(g-w) > largest*0x1p-23 {
			t.Errorf("%s[%d] = %g, want %g", what, i, got[i], want[i])
		}
	}
}

// standIn is the network of scripts/golden/scheduler.py.
func standIn(x []float32, t float64) []float32 {
	out := make([]float32, len(x))
	for j := range x {
		out[j] = 0.3*x[j] + float32(math.Sin(t/1000+float64(j)))
	}
	return out
}

// draws is the noise of scripts/golden/scheduler.py.
type draws int

func (d *draws) normal(dst []float32) {
	for j := range dst {
		dst[j] = float32(1.5 * math.Cos(1.7*float64(*d)+0.9*float64(j)+0.3))
	}
	*d++
}

func TestTrajectoriesEqualDiffusers(t *testing.T) {
	g := readGolden(t)
	for n, w := range g.Walks {
		cfg := parse(t, w.Config)
		for _, run := range w.Runs {
			name := fmt.Sprintf("%d/%s/%s/%s/karras=%v/%d/%d", n, run.Sampler, cfg.TimestepSpacing, cfg.PredictionType, cfg.UseKarrasSigmas, run.Steps, run.Begin)
			t.Run(name, func(t *testing.T) { compareWalk(t, g, cfg, run) })
		}
	}
}

func compareWalk(t *testing.T, g golden, cfg Config, want walk) {
	s, err := New(cfg, "", want.Steps)
	if err != nil {
		t.Fatal(err)
	}
	if !near(s.InitNoiseSigma(), want.InitNoiseSigma) {
		t.Errorf("InitNoiseSigma = %g, want %g", s.InitNoiseSigma(), want.InitNoiseSigma)
	}
	ts := s.Timesteps()
	if len(ts) != len(want.Timesteps) {
		t.Fatalf("timesteps %v, want %v", ts, want.Timesteps)
	}
	var noise draws
	if r, ok := s.(Stochastic); ok {
		r.SetNoise(noise.normal)
	}
	x := slices.Clone(g.X0)
	if want.Begin > 0 {
		if err := s.AddNoise(x, g.Noise, want.Begin); err != nil {
			t.Fatal(err)
		}
	} else {
		for i := range x {
			x[i] = g.Noise[i] * float32(s.InitNoiseSigma())
		}
	}
	largest := 2 * s.InitNoiseSigma()
	compare(t, "start", x, want.Start, largest)
	input := make([]float32, len(x))
	for i := want.Begin; i < len(ts); i++ {
		if math.Abs(ts[i]-want.Timesteps[i]) > 1e-4 {
			t.Errorf("timestep %d = %g, want %g", i, ts[i], want.Timesteps[i])
		}
		s.ScaleInput(input, x, i)
		if err := s.Step(x, standIn(input, ts[i]), i); err != nil {
			t.Fatal(err)
		}
		if k := i - len(ts) + len(want.Samples); k >= 0 {
			compare(t, fmt.Sprintf("sample %d", i), x, want.Samples[k], largest)
		}
	}
	if int(noise) != want.Draws {
		t.Errorf("%d draws of noise, want %d", noise, want.Draws)
	}
}

func TestScheduleEqualsDiffusers(t *testing.T) {
	g := readGolden(t)
	x0 := g.X0
	for n, want := range g.Schedules {
		cfg := parse(t, want.Config)
		bar := cfg.AlphasCumprod()
		for _, row := range want.Rows {
			what := fmt.Sprintf("schedule %d at %d: ", n, row.T)
			if !near(bar[row.T], row.AlphaCumprod) {
				t.Errorf("%salpha %g, want %g", what, bar[row.T], row.AlphaCumprod)
			}
			if snr := bar[row.T] / (1 - bar[row.T]); cfg.SNR(row.T) != snr {
				t.Errorf("%sSNR %g, want %g", what, cfg.SNR(row.T), snr)
			}
			noisy := make([]float32, len(x0))
			cfg.AddNoise(noisy, x0, g.Noise, row.T)
			compare(t, what+"noisy", noisy, row.Noisy, 1)
			for prediction, x0 := range row.X0 {
				cfg.PredictionType = prediction
				got := make([]float32, len(x0))
				cfg.PredictX0(got, noisy, standIn(noisy, float64(row.T)), float64(row.T))
				compare(t, what+prediction, got, x0, 1)
			}
		}
	}
}

package scheduler

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

// golden is testdata/trajectories.json, written by scripts/golden/scheduler.py.
type golden struct {
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
	InitNoiseSigma float64     `json:"init_noise_sigma"`
	Timesteps      []float64   `json:"timesteps"`
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

func TestTrajectoriesEqualDiffusers(t *testing.T) {
	g := readGolden(t)
	for n, w := range g.Walks {
		cfg := parse(t, w.Config)
		for _, run := range w.Runs {
			name := fmt.Sprintf("%d/%s/%s/%s/karras=%v/%d", n, run.Sampler, cfg.TimestepSpacing, cfg.PredictionType, cfg.UseKarrasSigmas, run.Steps)
			t.Run(name, func(t *testing.T) { compareWalk(t, cfg, run, g.Noise) })
		}
	}
}

func compareWalk(t *testing.T, cfg Config, want walk, noise []float32) {
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
	x := make([]float32, len(noise))
	for i := range x {
		x[i] = noise[i] * float32(s.InitNoiseSigma())
	}
	input := make([]float32, len(x))
	for i, at := range ts {
		if math.Abs(at-want.Timesteps[i]) > 2e-3 { // Karras' fractions stem from a σ_0 that diffusers knows to float32 of 1-ᾱ_0
			t.Errorf("timestep %d = %g, want %g", i, at, want.Timesteps[i])
		}
		s.ScaleInput(input, x, i)
		if err := s.Step(x, standIn(input, at), i); err != nil {
			t.Fatal(err)
		}
		if k := i - len(ts) + len(want.Samples); k >= 0 {
			compare(t, fmt.Sprintf("sample %d", i), x, want.Samples[k], 2*s.InitNoiseSigma())
		}
	}
}

func TestScheduleEqualsDiffusers(t *testing.T) {
	g := readGolden(t)
	x0 := []float32{0.3, -0.7, 1.4}
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

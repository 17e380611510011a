//go:build torch

package loop

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"likeness/models/backend/torch"
	"likeness/models/op"
)

// line fits y = w·x + b to y = 3x - 1.
func lineTask(fail error) Task {
	model := func(s op.Scope) map[string]op.Tensor {
		x, y := s.Input("x", op.Float32, -1, 1), s.Input("y", op.Float32, -1, 1)
		d := x.Linear(s.Weight("weight", 1, 1), s.Weight("bias", 1)).Sub(y)
		return map[string]op.Tensor{"loss": d.Mul(d).Mean(0, 1)}
	}
	return Task{
		Model: model,
		Init:  func() (map[string]op.Array, error) { return Init(model, 1) },
		Batch: func(r *rand.Rand, _ float64) (map[string]op.Array, error) {
			if fail != nil {
				return nil, fail
			}
			x, y := make([]float32, 16), make([]float32, 16)
			for i := range x {
				x[i] = float32(r.NormFloat64())
				y[i] = 3*x[i] - 1
			}
			return map[string]op.Array{"x": op.Floats(x, 16, 1), "y": op.Floats(y, 16, 1)}, nil
		},
	}
}

func newEngine(t *testing.T) *torch.Engine {
	t.Helper()
	e, err := torch.New(torch.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func TestTrainLearnsAndResumes(t *testing.T) {
	engine := newEngine(t)
	cfg := Default(t.TempDir())
	cfg.Steps, cfg.Batch, cfg.LR, cfg.WarmUp, cfg.WeightDecay, cfg.EMA = 200, 16, 0.1, 10, 0, 0.9
	first := cfg
	first.Steps = 100
	for _, c := range []Config{first, cfg} {
		if err := Train(context.Background(), engine, c, lineTask(nil)); err != nil {
			t.Fatal(err)
		}
	}
	saved, err := readCheckpoint(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if saved.step != 200 || saved.elapsed <= 0 || saved.adam["step"].F32[0] != 200 {
		t.Errorf("saved step %d after %v, optimizer step %v: want 200 of each", saved.step, saved.elapsed, saved.adam["step"].F32)
	}
	average, err := Average(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	w, b := float64(average["weight"].F32[0]), float64(average["bias"].F32[0])
	if math.Abs(w-3) > 0.05 || math.Abs(b+1) > 0.05 {
		t.Errorf("learned y = %.3f x %+.3f, want 3 x - 1", w, b)
	}
}

func TestTrainStopsAndSaves(t *testing.T) {
	engine := newEngine(t)
	cfg := Default(t.TempDir())
	cfg.Duration, cfg.Batch = time.Hour, 16
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := Train(ctx, engine, cfg, lineTask(nil)); err != nil {
		t.Fatal(err)
	}
	if saved, err := readCheckpoint(cfg.Dir); err != nil || saved.step == 0 {
		t.Errorf("a stopped run saved step %d, %v", saved.step, err)
	}
}

func TestTrainReportsErrors(t *testing.T) {
	engine := newEngine(t)
	boom := errors.New("no more pictures")
	cfg := Default(t.TempDir())
	if err := Train(context.Background(), engine, cfg, lineTask(nil)); err == nil {
		t.Error("a run without an end was accepted")
	}
	cfg.Steps = 10
	if err := Train(context.Background(), engine, cfg, lineTask(boom)); !errors.Is(err, boom) {
		t.Errorf("error %v, want the batch's own", err)
	}
	if err := os.WriteFile(cfg.Dir+"/"+checkpointFile, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Train(context.Background(), engine, cfg, lineTask(nil)); err == nil || !strings.Contains(err.Error(), checkpointFile) {
		t.Errorf("a damaged checkpoint gave %v, want an error that names it", err)
	}
}

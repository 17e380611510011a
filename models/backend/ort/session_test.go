package ort_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/op"

	"golang.org/x/sync/errgroup"
)

// affine is x [B, 2] → y = x·Wᵀ + b [B, 3], where W is weights' "w" and b counts 0, 1, 2; and best [B], the place of y's maximum.
func affine(s op.Scope) map[string]op.Tensor {
	x := s.Input("x", op.Float32, -1, 2)
	y := x.Linear(s.Weight("w", 3, 2), s.Const([]float32{0, 1, 2}, 3))
	return map[string]op.Tensor{"y": y, "best": y.ArgMax(1)}
}

var affineWeights = onnx.FromArrays(map[string]op.Array{"w": op.Floats([]float32{1, 0, 0, 1, 1, 1}, 3, 2)})

func TestRunComputes(t *testing.T) {
	s := open(t, affine, affineWeights)
	out := run(t, s, map[string]op.Array{"x": op.Floats([]float32{10, 20, 1, -9}, 2, 2)})
	within(t, "y", out["y"], op.Floats([]float32{10, 21, 32, 1, -8, -6}, 2, 3), 0)
	if best := out["best"]; len(best.Dims) != 1 || best.I64[0] != 2 || best.I64[1] != 0 {
		t.Errorf("best is %v, want [2 0]", best)
	}
}

func TestRunRefusesInputs(t *testing.T) {
	s := open(t, affine, affineWeights)
	good := op.Floats([]float32{1, 2}, 1, 2)
	for name, c := range map[string]struct {
		inputs map[string]op.Array
		input  string
	}{
		"none":           {nil, "x"},
		"unknown":        {map[string]op.Array{"x": good, "z": good}, "z"},
		"type":           {map[string]op.Array{"x": op.Ints([]int64{1, 2}, 1, 2)}, "x"},
		"rank":           {map[string]op.Array{"x": op.Floats([]float32{1, 2}, 2)}, "x"},
		"dimension":      {map[string]op.Array{"x": op.Floats([]float32{1, 2, 3}, 1, 3)}, "x"},
		"empty":          {map[string]op.Array{"x": op.Floats(nil, 0, 2)}, "x"},
		"too few values": {map[string]op.Array{"x": op.Floats([]float32{1}, 1, 2)}, "x"},
		"negative":       {map[string]op.Array{"x": op.Floats([]float32{1, 2}, -1, -2)}, "x"},
	} {
		_, err := s.Run(t.Context(), c.inputs)
		var wrong *ort.InputError
		if !errors.As(err, &wrong) || wrong.Input != c.input {
			t.Errorf("%s: error is %v, want an InputError of %q", name, err, c.input)
		}
	}
}

func TestRunConcurrently(t *testing.T) {
	s := open(t, affine, affineWeights)
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for batch := 1; batch <= 20; batch++ {
				x := zeros(batch, 2)
				for i := range x.F32 {
					x.F32[i] = float32(100*g + i)
				}
				out, err := s.Run(t.Context(), map[string]op.Array{"x": x})
				if err != nil {
					t.Error(err)
					return
				}
				for i := range batch {
					if y := out["y"].F32[3*i+2]; y != x.F32[2*i]+x.F32[2*i+1]+2 {
						t.Errorf("goroutine %d, batch %d: y is %v", g, batch, y)
					}
				}
			}
		})
	}
	wait.Wait()
}

// slow multiplies x [512, 512] by itself often enough for many seconds.
func slow(s op.Scope) map[string]op.Tensor {
	x := s.Input("x", op.Float32, 512, 512)
	y := x
	for range 2000 {
		y = y.MatMul(x)
	}
	return map[string]op.Tensor{"y": y}
}

func TestRunIsCancelled(t *testing.T) {
	s := open(t, slow, nil)
	inputs := map[string]op.Array{"x": zeros(512, 512)}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Run(ctx, inputs); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the context's", err)
	}
	if _, err := s.Run(ctx, inputs); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error of a run that begins too late is %v, want the context's", err)
	}
}

func TestRunAfterCancelledRun(t *testing.T) {
	s := open(t, affine, affineWeights)
	ctx, cancel := context.WithCancel(t.Context())
	inputs := map[string]op.Array{"x": zeros(1, 2)}
	if _, err := s.Run(ctx, inputs); err != nil {
		t.Fatal(err)
	}
	cancel()
	run(t, s, inputs)
}

func TestClose(t *testing.T) {
	s := open(t, affine, affineWeights)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Run(t.Context(), map[string]op.Array{"x": zeros(1, 2)}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a run of a closed session: error is %v", err)
	}
}

func TestFailureNamesGraph(t *testing.T) {
	g, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor {
		table := s.Const([]float32{1, 2}, 2, 1)
		return map[string]op.Tensor{"row": table.Gather(s.Input("index", op.Int64, -1))}
	}, nil, onnx.Options{Name: "lookup"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.Open(g, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err = s.Run(t.Context(), map[string]op.Array{"index": op.Ints([]int64{7}, 1)}); err == nil || !strings.Contains(err.Error(), "graph lookup") {
		t.Errorf("error of an index out of range is %v", err)
	}
	g.Model = []byte("no model")
	if _, err = ort.Open(g, ort.Options{}); err == nil || !strings.Contains(err.Error(), "graph lookup") {
		t.Errorf("error of a broken graph is %v", err)
	}
}

func TestDevice(t *testing.T) {
	g, err := onnx.Emit(affine, affineWeights, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, device := range []string{"tpu", "cuda:x", "cpu:1"} {
		if _, err := ort.Open(g, ort.Options{Device: device}); err == nil || !strings.Contains(err.Error(), device) {
			t.Errorf("device %s: error is %v", device, err)
		}
	}
}

func TestInit(t *testing.T) {
	if err := ort.Init(ort.LibraryPath()); err != nil {
		t.Errorf("the loaded library again: %v", err)
	}
	for path, want := range map[string]string{"/nowhere/libonnxruntime.so": "run scripts/setup", "session.go": "loaded already"} {
		if err := ort.Init(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error is %v, want %q", path, err, want)
		}
	}
}

func TestScalarOutput(t *testing.T) {
	s := open(t, func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"mean": s.Input("x", op.Float32, -1, -1).Mean(0, 1).Reshape()}
	}, nil)
	out := run(t, s, map[string]op.Array{"x": op.Floats([]float32{1, 2, 3, 6}, 2, 2)})
	if mean := out["mean"]; len(mean.Dims) != 0 || len(mean.F32) != 1 || mean.F32[0] != 3 {
		t.Errorf("mean is %v, want the scalar 3", mean)
	}
}

// TestOpenTogether: the first sessions of a process may be opened at once, as a server's are. Each child is a process of its own.
func TestOpenTogether(t *testing.T) {
	const child = "LIKENESS_OPEN_TOGETHER"
	if os.Getenv(child) == "" {
		for range 10 {
			c := exec.Command(os.Args[0], "-test.run", "^TestOpenTogether$")
			c.Env = append(os.Environ(), child+"=1")
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		return
	}
	g := graph(t, nil, true, func(s op.Scope) op.Tensor { return s.Input("x", op.Float32, 1) })
	var group errgroup.Group
	for range 16 {
		group.Go(func() error {
			s, err := ort.Open(g, ort.Options{Threads: 1})
			if err != nil {
				return err
			}
			return s.Close()
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

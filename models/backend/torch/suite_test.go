//go:build torch

package torch

import (
	"strings"
	"sync"
	"testing"

	"likeness/models/op"
	"likeness/models/op/optest"
)

// start returns an engine that ends with the test.
func start(t testing.TB, compute Precision) *Engine {
	t.Helper()
	e, err := New(Config{Threads: 2, Compute: compute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// params returns weights that are freed with the test.
func params(t testing.TB, e *Engine, weights map[string]op.Array, trainable bool) *Params {
	t.Helper()
	p, err := e.NewParams(weights, trainable)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Free)
	return p
}

func TestSuite(t *testing.T) {
	for name, c := range map[string]struct {
		compute Precision
		tol     float64
	}{"float32": {Float32, 1e-5}, "bfloat16": {BFloat16, 2e-2}} {
		t.Run(name, func(t *testing.T) {
			e := start(t, c.compute)
			optest.Run(t, c.tol, func(model op.Model, weights, inputs map[string]op.Array) (map[string]op.Array, error) {
				p, err := e.NewParams(weights, false)
				if err != nil {
					return nil, err
				}
				defer p.Free()
				return e.Run(model, inputs, p)
			})
		})
	}
}

func TestErrorsNameWhatIsWrong(t *testing.T) {
	e := start(t, Float32)
	p := params(t, e, map[string]op.Array{"w": optest.Normal("w", 3)}, true)
	sum := func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"loss": s.Input("x", op.Float32, 3).Mul(s.Weight("w", 3))}
	}
	mean := func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"loss": sum(s)["loss"].Mean(0)}
	}
	good := map[string]op.Array{"x": optest.Normal("x", 3)}
	for want, run := range map[string]func() (map[string]op.Array, error){
		`no input "x"`: func() (map[string]op.Array, error) { return e.Run(sum, nil, p) },
		"input x has dims [4]": func() (map[string]op.Array, error) {
			return e.Run(sum, map[string]op.Array{"x": optest.Normal("x", 4)}, p)
		},
		"missing weight w":                  func() (map[string]op.Array, error) { return e.Run(sum, good) },
		"loss has dims [3], want one value": func() (map[string]op.Array, error) { return e.Backward(sum, good, p) },
		"no output named loss": func() (map[string]op.Array, error) {
			return e.Backward(func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": mean(s)["loss"]} }, good, p)
		},
	} {
		if _, err := run(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
	if _, err := e.Backward(mean, good, p); err != nil {
		t.Errorf("after those errors: %v", err)
	}
	if _, err := New(Config{Threads: -1}); err == nil {
		t.Error("a negative number of threads is accepted")
	}
	if _, err := e.NewAdamW(params(t, e, nil, false), AdamWConfig{}); err == nil {
		t.Error("an optimizer of weights without gradients is accepted")
	}
}

func TestConcurrentUse(t *testing.T) {
	e := start(t, Float32)
	p := params(t, e, map[string]op.Array{"w": op.Floats([]float32{2, 3}, 2)}, true)
	model := func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"loss": s.Input("x", op.Float32, 2).Mul(s.Weight("w", 2)).Mean(0)}
	}
	const calls = 50
	var wait sync.WaitGroup
	for i := range 4 {
		run := e.Run
		if i%2 == 0 {
			run = e.Backward
		}
		wait.Go(func() {
			for range calls {
				out, err := run(model, map[string]op.Array{"x": op.Floats([]float32{2, 4}, 2)}, p)
				if err != nil || out["loss"].F32[0] != 8 {
					t.Errorf("%v, %v, want a loss of 8", out["loss"], err)
				}
			}
		})
	}
	wait.Wait()
	g, err := p.Gradients()
	if err != nil {
		t.Fatal(err)
	}
	// Two goroutines' calls each add x / 2.
	optest.Near(t, "gradient", g["w"], op.Floats([]float32{2 * calls, 4 * calls}, 2), 0)
}

//go:build torch

package torch

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"likeness/models/op"
	"likeness/models/op/optest"
)

// factored is written by scripts/golden/adafactor.py.
type factored struct {
	Clip, Decay    float64
	Kernel, Vector []float32
	Steps          []struct {
		LR, Norm             float64
		X, Y, Kernel, Vector []float32
	}
}

var kernel = []int{3, 5, 2, 2}

func kernelAndVector(s op.Scope) map[string]op.Tensor {
	x := s.Weight("kernel", kernel...).Mul(s.Input("x", op.Float32, kernel...)).Mean(0, 1, 2, 3).Reshape(1)
	return map[string]op.Tensor{"loss": x.Add(s.Weight("vector", 5).Mul(s.Input("y", op.Float32, 5)).Mean(0))}
}

// Steps are transformers', and go on elsewhere from weights and state that were read.
func TestAdafactor(t *testing.T) {
	var g factored
	data, err := os.ReadFile("testdata/adafactor.json")
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil || len(g.Steps) == 0 {
		t.Fatalf("testdata/adafactor.json: %v", err)
	}
	e := start(t, Float32)
	begin := func() (*Params, *Adafactor) {
		p := params(t, e, map[string]op.Array{"kernel": op.Floats(g.Kernel, kernel...), "vector": op.Floats(g.Vector, 5)}, true)
		a, err := e.NewAdafactor(p, AdafactorConfig{WeightDecay: g.Decay})
		if err != nil {
			t.Fatal(err)
		}
		return p, a
	}
	p, a := begin()
	for i, want := range g.Steps {
		if i == 2 {
			state, err := a.Arrays()
			if err != nil {
				t.Fatal(err)
			}
			q, b := begin()
			if err := q.Set(arrays(t, p)); err != nil {
				t.Fatal(err)
			}
			if err := b.Set(state); err != nil {
				t.Fatal(err)
			}
			p, a = q, b
			delete(state, "columns/kernel")
			if err := b.Set(state); err == nil {
				t.Error("a state that lacks a tensor is accepted")
			}
		}
		inputs := map[string]op.Array{"x": op.Floats(want.X, kernel...), "y": op.Floats(want.Y, 5)}
		if _, err := e.Backward(kernelAndVector, inputs, p); err != nil {
			t.Fatal(err)
		}
		norm, err := a.Step(want.LR, g.Clip)
		if err != nil || math.Abs(norm-want.Norm) > 1e-6 {
			t.Errorf("step %d: gradient norm %g, want %g: %v", i, norm, want.Norm, err)
		}
		got := arrays(t, p)
		optest.Near(t, "kernel", got["kernel"], op.Floats(want.Kernel, kernel...), 1e-6)
		optest.Near(t, "vector", got["vector"], op.Floats(want.Vector, 5), 1e-6)
	}
}

// Over a weight that is long enough for two goroutines, a step is that of the formulas.
func TestAdafactorOfLongWeights(t *testing.T) {
	const rows, columns = 300, 257
	e := start(t, Float32)
	w, x := optest.Normal("w", rows, columns), optest.Normal("x", rows, columns)
	p := params(t, e, map[string]op.Array{"w": w}, true)
	a, err := e.NewAdafactor(p, AdafactorConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Backward(func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"loss": s.Weight("w", rows, columns).Mul(s.Input("x", op.Float32, rows, columns)).Mean(0, 1)}
	}, map[string]op.Array{"x": x}, p); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Step(1e-2, 0); err != nil {
		t.Fatal(err)
	}
	row, column, mean := make([]float64, rows), make([]float64, columns), 0.0
	for i, v := range x.F32 {
		square := float64(v) * float64(v) / (rows * columns) / (rows * columns)
		row[i/columns] += square / columns
		column[i%columns] += square / rows
		mean += square / (rows * columns)
	}
	update, squares := make([]float64, rows*columns), 0.0
	for i, v := range x.F32 {
		update[i] = float64(v) / (rows * columns) / math.Sqrt(row[i/columns]*column[i%columns]/mean)
		squares += update[i] * update[i]
	}
	want := append([]float32(nil), w.F32...)
	for i, u := range update {
		want[i] -= float32(1e-2 * u / max(1, math.Sqrt(squares/(rows*columns))))
	}
	optest.Near(t, "w", arrays(t, p)["w"], op.Floats(want, rows, columns), 1e-5)
}

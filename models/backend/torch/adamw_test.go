//go:build torch

package torch

import (
	"encoding/json"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"likeness/models/op"
	"likeness/models/op/optest"
)

// golden is written by scripts/golden/adamw.py.
type golden struct {
	Clip           float64
	Matrix, Vector []float32
	Steps          []struct {
		LR, Norm             float64
		X, Y, Matrix, Vector []float32
	}
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	data, err := os.ReadFile("testdata/adamw.json")
	if err == nil {
		err = json.Unmarshal(data, &g)
	}
	if err != nil || len(g.Steps) == 0 {
		t.Fatalf("testdata/adamw.json: %v", err)
	}
	return g
}

func (g golden) weights() map[string]op.Array {
	return map[string]op.Array{"matrix": op.Floats(g.Matrix, 3, 4), "vector": op.Floats(g.Vector, 5)}
}

func (g golden) optimizer(t *testing.T, e *Engine, p *Params) *AdamW {
	t.Helper()
	a, err := e.NewAdamW(p, AdamWConfig{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// step makes step i and returns the gradient's norm.
func (g golden) step(t *testing.T, e *Engine, p *Params, a *AdamW, i int) float64 {
	t.Helper()
	s := g.Steps[i]
	inputs := map[string]op.Array{"x": op.Floats(s.X, 3, 4), "y": op.Floats(s.Y, 5)}
	if _, err := e.Backward(twoMeans, inputs, p); err != nil {
		t.Fatal(err)
	}
	norm, err := a.Step(s.LR, g.Clip)
	if err != nil {
		t.Fatal(err)
	}
	return norm
}

func twoMeans(s op.Scope) map[string]op.Tensor {
	x := s.Weight("matrix", 3, 4).Mul(s.Input("x", op.Float32, 3, 4)).Mean(0, 1).Reshape(1)
	return map[string]op.Tensor{"loss": x.Add(s.Weight("vector", 5).Mul(s.Input("y", op.Float32, 5)).Mean(0))}
}

func arrays(t *testing.T, p *Params) map[string]op.Array {
	t.Helper()
	a, err := p.Arrays()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAdamWIsPyTorchs(t *testing.T) {
	g, e := readGolden(t), start(t, Float32)
	p := params(t, e, g.weights(), true)
	a := g.optimizer(t, e, p)
	for i, want := range g.Steps {
		if norm := g.step(t, e, p, a, i); math.Abs(norm-want.Norm) > 1e-6 {
			t.Errorf("step %d: gradient norm %g, want %g", i, norm, want.Norm)
		}
		got := arrays(t, p)
		optest.Near(t, "matrix", got["matrix"], op.Floats(want.Matrix, 3, 4), 1e-6)
		optest.Near(t, "vector", got["vector"], op.Floats(want.Vector, 5), 1e-6)
	}
}

// Weights and state that were read after two steps and set again elsewhere go on as if nothing had been.
func TestAdamWResumes(t *testing.T) {
	g, e := readGolden(t), start(t, Float32)
	p := params(t, e, g.weights(), true)
	a := g.optimizer(t, e, p)
	g.step(t, e, p, a, 0)
	g.step(t, e, p, a, 1)
	state, err := a.Arrays()
	if err != nil {
		t.Fatal(err)
	}
	q := params(t, e, g.weights(), true)
	if err := q.Set(arrays(t, p)); err != nil {
		t.Fatal(err)
	}
	b := g.optimizer(t, e, q)
	if err := b.Set(state); err != nil {
		t.Fatal(err)
	}
	g.step(t, e, p, a, 2)
	g.step(t, e, q, b, 2)
	want, got := arrays(t, p), arrays(t, q)
	optest.Near(t, "matrix", got["matrix"], want["matrix"], 0)
	optest.Near(t, "vector", got["vector"], want["vector"], 0)

	delete(state, "first/vector")
	if err := b.Set(state); err == nil {
		t.Error("a state that lacks a tensor is accepted")
	}
	if err := q.Set(map[string]op.Array{"matrix": op.Floats(g.Matrix, 3, 4)}); err == nil {
		t.Error("weights that lack one are accepted")
	}
}

func TestStepRefusesGradientsThatAreNoNumbers(t *testing.T) {
	g, e := readGolden(t), start(t, Float32)
	p := params(t, e, g.weights(), true)
	a := g.optimizer(t, e, p)
	inputs := map[string]op.Array{"x": op.Floats(append([]float32{float32(math.NaN())}, g.Matrix[1:]...), 3, 4), "y": op.Floats(g.Vector, 5)}
	if _, err := e.Backward(twoMeans, inputs, p); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Step(0.1, 1); err == nil {
		t.Error("a gradient of NaN is accepted")
	}
	optest.Near(t, "matrix", arrays(t, p)["matrix"], op.Floats(g.Matrix, 3, 4), 0)
}

func TestEMA(t *testing.T) {
	g, e := readGolden(t), start(t, Float32)
	p := params(t, e, g.weights(), true)
	average, err := e.NewEMA(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(average.Params().Free)
	if err := p.Set(map[string]op.Array{"matrix": op.Floats(make([]float32, 12), 3, 4), "vector": op.Floats(make([]float32, 5), 5)}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := average.Update(0.9); err != nil {
			t.Fatal(err)
		}
	}
	want := scaled(op.Floats(append([]float32(nil), g.Matrix...), 3, 4), 0.9*0.9*0.9)
	optest.Near(t, "matrix", arrays(t, average.Params())["matrix"], want, 1e-6)
}

// resident is the memory that the process holds, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Two hundred steps with inputs of 330 KB hold no more memory at the end than after the first ones: a leak of the inputs alone would be 66 MB.
func TestStepsLeaveNoMemory(t *testing.T) {
	weights, _ := example(t)
	e := start(t, BFloat16)
	p := params(t, e, weights, true)
	a, err := e.NewAdamW(p, AdamWConfig{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8})
	if err != nil {
		t.Fatal(err)
	}
	const batch = 256
	inputs := map[string]op.Array{
		"x": optest.Normal("x", batch, 3, 2*side, 2*side), "target": optest.Normal("target", batch, 2, 2*side, 2*side),
		"t": op.Floats(make([]float32, batch), batch), "ids": op.Ints(make([]int64, 5*batch), batch, 5),
	}
	var before int
	for i := range 220 {
		if i == 20 {
			before = resident(t)
		}
		if _, err := e.Backward(network, inputs, p); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Step(1e-3, 1); err != nil {
			t.Fatal(err)
		}
	}
	if grown := resident(t) - before; grown > 30<<20 {
		t.Errorf("200 steps left %d MB", grown>>20)
	}
}

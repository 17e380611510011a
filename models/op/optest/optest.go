// Package optest is the conformance suite that every Builder must pass, and what the tests of networks compare with.
package optest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/op"
)

// Runner builds a model on the Builder under test and runs it.
type Runner func(model op.Model, weights, inputs map[string]op.Array) (map[string]op.Array, error)

// Run holds run against the reference over every primitive and composite. No element may be farther than tol times the largest of its
// tensor. Each case runs with the inputs' dims declared and again with all of them symbolic.
func Run(t *testing.T, tol float64, run Runner) {
	for _, group := range [][]example{elementwise, layouts, reductions, networks} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				c.compare(t, false, tol, run)
				c.compare(t, true, tol, run)
			})
		}
	}
	for _, r := range refusals {
		t.Run("refuses "+r.name, func(t *testing.T) { r.check(t, run) })
	}
	t.Run("refuses weights", func(t *testing.T) { refusesWeights(t, run) })
}

// example is one small model: f of the inputs x and the weights w.
type example struct {
	name string
	x, w []op.Array
	f    func(s op.Scope, x, w []op.Tensor) op.Tensor
}

// model reads the example's inputs x0, x1, … and weights w0, w1, … in the scope "block.layer" and returns y.
func (e example) model(symbolic bool) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		s = s.At("block", "layer")
		var x, w []op.Tensor
		for i, a := range e.x {
			dims, dt := slices.Clone(a.Dims), op.Float32
			for j := range dims {
				if symbolic {
					dims[j] = -1
				}
			}
			if a.I64 != nil {
				dt = op.Int64
			}
			s.Input(fmt.Sprint("x", i), dt, dims...)
			x = append(x, s.Input(fmt.Sprint("x", i), dt, dims...)) // the same again
		}
		for i, a := range e.w {
			w = append(w, s.Weight(fmt.Sprint("w", i), a.Dims...))
		}
		return map[string]op.Tensor{"y": e.f(s, x, w)}
	}
}

func (e example) arrays() (weights, inputs map[string]op.Array) {
	weights, inputs = map[string]op.Array{}, map[string]op.Array{}
	for i, a := range e.x {
		inputs[fmt.Sprint("x", i)] = a
	}
	for i, a := range e.w {
		weights[fmt.Sprint("block.layer.w", i)] = a
	}
	return weights, inputs
}

func (e example) compare(t *testing.T, symbolic bool, tol float64, run Runner) {
	t.Helper()
	weights, inputs := e.arrays()
	want, err := ref.Run(e.model(symbolic), weights, inputs)
	if err != nil {
		t.Fatalf("reference: %v", err)
	}
	got, err := run(e.model(symbolic), weights, inputs)
	if err != nil {
		t.Fatalf("symbolic dims %v: %v", symbolic, err)
	}
	largest := 0.0
	for _, v := range want["y"].F32 {
		largest = math.Max(largest, math.Abs(float64(v)))
	}
	Near(t, "y", got["y"], want["y"], tol*largest)
}

// Near fails the test where got has other dims than want, or an element farther than tol from its own. Integers must be equal.
func Near(t testing.TB, name string, got, want op.Array, tol float64) {
	t.Helper()
	if err := got.Check(); err != nil || !slices.Equal(got.Dims, want.Dims) {
		t.Fatalf("%s: dims %v, want %v (%v)", name, got.Dims, want.Dims, err)
	}
	if !slices.Equal(got.I64, want.I64) {
		t.Fatalf("%s: %v, want %v", name, got.I64, want.I64)
	}
	at, worst := 0, 0.0
	for i, v := range want.F32 {
		if d := math.Abs(float64(got.F32[i]) - float64(v)); !(d <= worst) {
			at, worst = i, d
		}
	}
	if !(worst <= tol) {
		t.Errorf("%s[%d]: %g, want %g to %g", name, at, got.F32[at], want.F32[at], tol)
	}
}

// Normal is an array of normal numbers that depend on seed alone.
func Normal(seed string, dims ...int) op.Array {
	h := fnv.New64()
	h.Write([]byte(seed))
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	a := op.Floats(make([]float32, op.Size(dims)), dims...)
	for i := range a.F32 {
		a.F32[i] = float32(r.NormFloat64())
	}
	return a
}

// refusal is a model whose operation must fail, with an error that names the scope it is in.
type refusal struct {
	name string
	f    func(x, w op.Tensor) op.Tensor // x [2, 3, 4, 5], w [4]
}

func (r refusal) check(t *testing.T, run Runner) {
	e := example{x: []op.Array{Normal("x", 2, 3, 4, 5)}, w: []op.Array{Normal("w", 4)}}
	e.f = func(_ op.Scope, x, w []op.Tensor) op.Tensor { return r.f(x[0], w[0]) }
	weights, inputs := e.arrays()
	_, err := run(e.model(false), weights, inputs)
	var wrong *op.Error
	if !errors.As(err, &wrong) || wrong.Path != "block.layer" {
		t.Errorf("the error is %v, want an *op.Error of block.layer", err)
	}
}

var refusals = []refusal{
	{"Add of other dims", func(x, w op.Tensor) op.Tensor { return x.Add(w) }},
	{"Less of two types", func(x, w op.Tensor) op.Tensor { return x.Less(x.Cast(op.Int64)) }},
	{"MatMul of other dims", func(x, w op.Tensor) op.Tensor { return x.MatMul(x) }},
	{"MatMul of a vector", func(x, w op.Tensor) op.Tensor { return x.Transpose(0, 1, 3, 2).MatMul(w) }},
	{"Linear of other dims", func(x, w op.Tensor) op.Tensor { return x.Linear(w.Reshape(1, 4), op.Tensor{}) }},
	{"Conv2D of other channels", func(x, w op.Tensor) op.Tensor { return x.Conv2D(w.Reshape(1, 4, 1, 1), op.Tensor{}, 1, 0) }},
	{"Conv2D of other bias", func(x, w op.Tensor) op.Tensor { return x.Conv2D(w.Slice(0, 0, 3).Reshape(1, 3, 1, 1), w, 1, 0) }},
	{"Conv2D larger than the image", func(x, w op.Tensor) op.Tensor {
		return x.Slice(1, 0, 1).Slice(2, 0, 1).Conv2D(w.Reshape(1, 1, 4, 1), op.Tensor{}, 1, 1)
	}},
	{"GroupNorm of other channels", func(x, w op.Tensor) op.Tensor { return x.GroupNorm(2, w, w, 1e-5) }},
	{"GroupNorm of no equal groups", func(x, w op.Tensor) op.Tensor { return x.Transpose(0, 2, 1, 3).GroupNorm(3, w, w, 1e-5) }},
	{"LayerNorm of other width", func(x, w op.Tensor) op.Tensor { return x.LayerNorm(w, w, 1e-5) }},
	{"LayerNorm without bias", func(x, w op.Tensor) op.Tensor { return x.Transpose(0, 1, 3, 2).LayerNorm(w, op.Tensor{}, 1e-5) }},
	{"Softmax of no axis", func(x, w op.Tensor) op.Tensor { return x.Softmax(4) }},
	{"Mean of nothing", func(x, w op.Tensor) op.Tensor { return x.Mean() }},
	{"Max of no axis", func(x, w op.Tensor) op.Tensor { return x.Max(1, -5) }},
	{"ArgMax of no axis", func(x, w op.Tensor) op.Tensor { return w.ArgMax(1) }},
	{"Where of a number", func(x, w op.Tensor) op.Tensor { return x.Where(x, x) }},
	{"Where of other dims", func(x, w op.Tensor) op.Tensor { return x.Less(x).Where(x, w) }},
	{"Reshape to another size", func(x, w op.Tensor) op.Tensor { return w.Reshape(3, -1) }},
	{"Reshape to two inferred", func(x, w op.Tensor) op.Tensor { return w.Reshape(-1, -1) }},
	{"Reshape like a shorter", func(x, w op.Tensor) op.Tensor { return x.ReshapeLike(w, 2, 0, -1) }},
	{"Transpose of an axis twice", func(x, w op.Tensor) op.Tensor { return x.Transpose(0, 1, 2, 2) }},
	{"Transpose of too few axes", func(x, w op.Tensor) op.Tensor { return x.Transpose(1, 0) }},
	{"Concat of other dims", func(x, w op.Tensor) op.Tensor { return x.Concat(1, x.Slice(2, 0, 3)) }},
	{"Concat of no axis", func(x, w op.Tensor) op.Tensor { return w.Concat(1, w) }},
	{"Slice past the end", func(x, w op.Tensor) op.Tensor { return x.Slice(2, 2, 5) }},
	{"Slice from before the start", func(x, w op.Tensor) op.Tensor { return x.Slice(2, -1, 2) }},
	{"Gather by numbers", func(x, w op.Tensor) op.Tensor { return x.Gather(w) }},
	{"Expand to other dims", func(x, w op.Tensor) op.Tensor { return x.Expand(w) }},
	{"Upsample2x of a vector", func(x, w op.Tensor) op.Tensor { return w.Upsample2x() }},
	{"Attention of other width", func(x, w op.Tensor) op.Tensor {
		y := x.Reshape(2, 12, 5)
		return y.Attention(y, y, op.Tensor{}, 2, 3)
	}},
}

func refusesWeights(t *testing.T, run Runner) {
	e := example{w: []op.Array{Normal("w", 4, 2)}, f: func(_ op.Scope, _, w []op.Tensor) op.Tensor { return w[0] }}
	for what, weights := range map[string]map[string]op.Array{
		"missing":    {},
		"other dims": {"block.layer.w0": Normal("w", 2, 4)},
		"short":      {"block.layer.w0": op.Floats(make([]float32, 7), 4, 2)},
	} {
		if _, err := run(e.model(false), weights, nil); err == nil || !strings.Contains(err.Error(), "block.layer.w0") {
			t.Errorf("%s: the error is %v, want one that names block.layer.w0", what, err)
		}
	}
}

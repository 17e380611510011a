package ort_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// TestKernels holds the kernels for every width of vectors against the definition, in C++.
func TestKernels(t *testing.T) {
	program := filepath.Join(t.TempDir(), "check")
	if out, err := exec.Command("g++", "-std=c++17", "-O3", "-o", program, "kernels/testdata/check.cpp").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Error(err)
	}
}

// TestConv holds our convolution against ONNX Runtime's, with few tiles, with more, with so many channels that their weights come in parts,
// and in sizes that no tile fits.
func TestConv(t *testing.T) {
	for _, c := range []struct{ batch, in, out, height, width int }{
		{1, 16, 8, 3, 5}, {1, 16, 8, 8, 8}, {3, 16, 24, 9, 7}, {2, 64, 32, 40, 33}, {1, 520, 520, 36, 36},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			weights := map[string]op.Array{"conv.weight": filled(c.out, c.in, 3, 3), "conv.bias": filled(c.out)}
			inputs := map[string]op.Array{"x": filled(c.batch, c.in, c.height, c.width)}
			want := convolved(t, convSession(t, weights, false), inputs)
			optest.Near(t, "y", convolved(t, convSession(t, weights, true), inputs), want, 1e-4)
		})
	}
}

// TestConvCached: the cache knows the operator.
func TestConvCached(t *testing.T) {
	weights := map[string]op.Array{"conv.weight": filled(16, 32, 3, 3), "conv.bias": filled(16)}
	inputs := map[string]op.Array{"x": filled(1, 32, 12, 12)}
	want := convolved(t, convSession(t, weights, true), inputs)
	cache := t.TempDir()
	for range 2 {
		s, err := ort.Open(convGraph(t, weights, true), ort.Options{Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		optest.Near(t, "y", convolved(t, s, inputs), want, 0)
		s.Close()
	}
}

// TestConvAlone: an image's result is the same to the bit whatever else is in its batch.
func TestConvAlone(t *testing.T) {
	weights := map[string]op.Array{"conv.weight": filled(16, 32, 3, 3), "conv.bias": filled(16)}
	s := convSession(t, weights, true)
	for _, size := range []int{8, 22, 24} {
		x := filled(5, 32, size, size)
		all := convolved(t, s, map[string]op.Array{"x": x})
		for i := range 5 {
			row := func(a op.Array) []float32 { return a.F32[len(a.F32)/5*i : len(a.F32)/5*(i+1)] }
			alone := convolved(t, s, map[string]op.Array{"x": op.Floats(row(x), 1, 32, size, size)})
			if !slices.Equal(alone.F32, row(all)) {
				t.Errorf("size %d: image %d is another one alone", size, i)
			}
		}
	}
}

func convolved(t *testing.T, s *ort.Session, inputs map[string]op.Array) op.Array {
	t.Helper()
	outputs, err := s.Run(t.Context(), inputs)
	if err != nil {
		t.Fatal(err)
	}
	return outputs["y"]
}

// convGraph is one convolution of x [., in, ., .].
func convGraph(t testing.TB, weights map[string]op.Array, own bool) *onnx.Graph {
	w := weights["conv.weight"].Dims
	return graph(t, weights, own, func(s op.Scope) op.Tensor {
		x := s.Input("x", op.Float32, -1, w[1], -1, -1)
		return x.Conv2D(s.At("conv").Weight("weight", w...), s.At("conv").Weight("bias", w[0]), 1, 1)
	})
}

// graph has the output y.
func graph(t testing.TB, weights map[string]op.Array, own bool, y func(op.Scope) op.Tensor) *onnx.Graph {
	g, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": y(s)} },
		onnx.FromArrays(weights), onnx.Options{Name: "graph", OwnOps: own})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func convSession(t testing.TB, weights map[string]op.Array, own bool) *ort.Session {
	return session(t, convGraph(t, weights, own))
}

// linearSession is a linear layer of x [., ., in].
func linearSession(t testing.TB, weights map[string]op.Array, own bool) *ort.Session {
	w := weights["linear.weight"].Dims
	return session(t, graph(t, weights, own, func(s op.Scope) op.Tensor {
		return s.Input("x", op.Float32, -1, -1, w[1]).Linear(s.At("linear").Weight("weight", w...), s.At("linear").Weight("bias", w[0]))
	}))
}

func session(t testing.TB, g *onnx.Graph) *ort.Session {
	s, err := ort.Open(g, ort.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// filled is an array of values within ±0.5.
func filled(dims ...int) op.Array {
	values, state := make([]float32, op.Size(dims)), uint32(1)
	for i := range values {
		state = state*1664525 + 1013904223
		values[i] = float32(state>>8)/(1<<24) - 0.5
	}
	return op.Floats(values, dims...)
}

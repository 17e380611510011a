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
	"likeness/models/safetensors"
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
		{1, 16, 8, 3, 5}, {1, 16, 8, 8, 8}, {3, 16, 24, 9, 7}, {2, 64, 32, 40, 33}, {2, 16, 8, 2, 500}, {1, 520, 520, 68, 68},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			weights := map[string]op.Array{"conv.weight": filled(c.out, c.in, 3, 3), "conv.bias": filled(c.out)}
			inputs := map[string]op.Array{"x": filled(c.batch, c.in, c.height, c.width)}
			want := result(t, convSession(t, weights, false), inputs)
			optest.Near(t, "y", result(t, convSession(t, weights, true), inputs), want, 3e-4) // of values to 30
		})
	}
}

// TestOtherConv does so with convolutions that are not Winograd's, and without a bias.
func TestOtherConv(t *testing.T) {
	for _, c := range []struct{ batch, in, kernel, stride, padding, size int }{
		{2, 24, 1, 1, 0, 40}, {1, 9, 3, 2, 1, 21}, {2, 16, 3, 1, 1, 4}, {3, 4, 3, 1, 1, 5}, {1, 3, 8, 8, 0, 32}, {1, 24, 3, 1, 0, 12},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			weights := map[string]op.Array{"conv.weight": filled(40, c.in, c.kernel, c.kernel)}
			compare(t, weights, map[string]op.Array{"x": filled(c.batch, c.in, c.size, c.size+1)}, func(s op.Scope) op.Tensor {
				w := s.At("conv").Weight("weight", 40, c.in, c.kernel, c.kernel)
				return s.Input("x", op.Float32, -1, c.in, -1, -1).Conv2D(w, op.Tensor{}, c.stride, c.padding)
			})
		})
	}
}

// TestLinear holds linear layers of few rows and of many against ONNX Runtime's Gemm.
func TestLinear(t *testing.T) {
	for _, c := range []struct{ rows, in, out int }{{1, 8, 8}, {3, 33, 16}, {50, 320, 72}, {77, 7, 8}, {700, 300, 40}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			weights := map[string]op.Array{"linear.weight": filled(c.out, c.in), "linear.bias": filled(c.out)}
			compare(t, weights, map[string]op.Array{"x": filled(2, c.rows, c.in)}, linear(weights))
		})
	}
}

// TestLoRALinear holds linear layers with changes of any rank, of each sample or of all, against ONNX Runtime's products; changes of zero give what
// the layer alone gives, to the bit.
func TestLoRALinear(t *testing.T) {
	for _, c := range []struct{ batch, rows, in, out, changes, rank int }{
		{3, 1, 8, 8, 3, 1}, {2, 77, 33, 16, 2, 4}, {2, 50, 320, 72, 1, 3}, {3, 700, 40, 40, 3, 9}, {1, 1300, 24, 16, 1, 4},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			weights := map[string]op.Array{"linear.weight": filled(c.out, c.in), "linear.bias": filled(c.out)}
			inputs := map[string]op.Array{"x": filled(c.batch, c.rows, c.in), "down": filled(c.changes, c.in, c.rank), "up": filled(c.changes, c.rank, c.out)}
			compare(t, weights, inputs, loraLinear(weights))
			clear(inputs["up"].F32)
			zero := result(t, session(t, graph(t, weights, true, loraLinear(weights))), inputs)
			alone := result(t, linearSession(t, weights, true), map[string]op.Array{"x": inputs["x"]})
			if !slices.Equal(zero.F32, alone.F32) {
				t.Error("a change of zero changes something")
			}
		})
	}
}

// TestHalfWeights: weights of half precision are read as they lie in their file, and give what their values give in float32, to the bit.
func TestHalfWeights(t *testing.T) {
	values := map[string]op.Array{
		"linear": filled(40, 24), "point": filled(40, 24, 1, 1), "kernel": filled(40, 24, 3, 3), "wide": filled(520, 24, 3, 3), "embedding": filled(50, 24),
	}
	model := func(s op.Scope) map[string]op.Tensor {
		w := func(name string) op.Tensor { return s.Weight(name, values[name].Dims...) }
		x, rows := s.Input("x", op.Float32, -1, 24, -1, -1), s.Input("rows", op.Float32, -1, 24)
		many := rows.Concat(0, slices.Repeat([]op.Tensor{rows}, 40)...)
		return map[string]op.Tensor{
			"few rows": rows.Linear(w("linear"), op.Tensor{}), "many rows": many.Linear(w("linear"), op.Tensor{}),
			"1×1": x.Conv2D(w("point"), op.Tensor{}, 1, 0), "3×3": x.Conv2D(w("kernel"), op.Tensor{}, 1, 1), "stride": x.Conv2D(w("kernel"), op.Tensor{}, 2, 1),
			"weights in parts": x.Conv2D(w("wide"), op.Tensor{}, 1, 1), "word": w("embedding").Gather(s.Input("tokens", op.Int64, -1)),
			"read otherwise": rows.MatMul(w("linear").Transpose(1, 0)),
		}
	}
	inputs := map[string]op.Array{"x": filled(1, 24, 60, 60), "rows": filled(33, 24), "tokens": op.Ints([]int64{3, 49, 3}, 3)}
	for name, half := range map[string]struct {
		of func([]float32, ...int) safetensors.Tensor
		to func(float32) float32
	}{
		"float16":  {safetensors.F16, func(v float32) float32 { return safetensors.FromFloat16(safetensors.ToFloat16(v)) }},
		"bfloat16": {safetensors.BF16, func(v float32) float32 { return safetensors.FromBFloat16(safetensors.ToBFloat16(v)) }},
	} {
		t.Run(name, func(t *testing.T) {
			stored, widened := map[string]safetensors.Tensor{}, map[string]op.Array{}
			for name, a := range values {
				v := slices.Clone(a.F32)
				for i := range v {
					v[i] = half.to(v[i] / float32(i%3000*i%3000+1)) // small ones too
				}
				stored[name], widened[name] = half.of(v, a.Dims...), op.Floats(v, a.Dims...)
			}
			path := filepath.Join(t.TempDir(), "half.safetensors")
			if err := safetensors.Write(path, stored, nil); err != nil {
				t.Fatal(err)
			}
			got, want := run(t, open(t, model, onnx.FromFile(openFile(t, path))), inputs), run(t, open(t, model, onnx.FromArrays(widened)), inputs)
			for name := range want {
				if !slices.Equal(got[name].F32, want[name].F32) {
					t.Errorf("%s differs", name)
				}
			}
		})
	}
}

// TestAttention holds attention of few queries and keys and of many against ONNX Runtime's.
func TestAttention(t *testing.T) {
	for _, c := range []attentionSizes{{1, 1, 1, 1, 8}, {2, 3, 5, 77, 40}, {1, 2, 300, 300, 64}, {3, 1, 129, 64, 160}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) { compare(t, nil, c.inputs(), c.attention) })
	}
}

// TestGroupNorm: what reads a norm itself, and what reads SiLU of it, gets what ONNX Runtime computes, also where values are large.
func TestGroupNorm(t *testing.T) {
	weights := map[string]op.Array{"norm.weight": filled(24), "norm.bias": filled(24)}
	for i := range weights["norm.weight"].F32 {
		weights["norm.weight"].F32[i] *= 100
	}
	norm := func(s op.Scope) op.Tensor {
		return s.Input("x", op.Float32, -1, 24, -1, -1).GroupNorm(4, s.At("norm").Weight("weight", 24), s.At("norm").Weight("bias", 24), 1e-5)
	}
	for name, y := range map[string]func(op.Scope) op.Tensor{
		"alone": norm,
		"SiLU":  func(s op.Scope) op.Tensor { return norm(s).SiLU() },
		"both":  func(s op.Scope) op.Tensor { h := norm(s); return h.SiLU().Add(h) },
	} {
		t.Run(name, func(t *testing.T) { compare(t, weights, map[string]op.Array{"x": filled(2, 24, 9, 70)}, y) })
	}
}

// TestSizes: operators of different files name the sizes that they do not know differently, so that tensors of different sizes never get
// one memory.
func TestSizes(t *testing.T) {
	weights := map[string]op.Array{"conv.weight": filled(8, 8, 3, 3), "conv.bias": filled(8), "norm.weight": filled(8), "norm.bias": filled(8)}
	compare(t, weights, map[string]op.Array{"x": filled(1, 8, 4, 4)}, func(s op.Scope) op.Tensor {
		x := s.Input("x", op.Float32, 1, 8, -1, -1)
		for range 3 {
			x = x.Upsample2x()
			x = x.Add(x.GroupNorm(4, s.At("norm").Weight("weight", 8), s.At("norm").Weight("bias", 8), 1e-5))
		}
		for range 3 {
			x = x.Conv2D(s.At("conv").Weight("weight", 8, 8, 3, 3), s.At("conv").Weight("bias", 8), 2, 1)
		}
		return x
	})
}

// TestConvAlone: an image's result is the same to the bit whatever else is in its batch.
func TestConvAlone(t *testing.T) {
	weights := map[string]op.Array{"conv.weight": filled(16, 32, 3, 3), "conv.bias": filled(16)}
	s := convSession(t, weights, true)
	for _, size := range []int{8, 22, 24} {
		x := filled(5, 32, size, size)
		all := result(t, s, map[string]op.Array{"x": x})
		for i := range 5 {
			row := func(a op.Array) []float32 { return a.F32[len(a.F32)/5*i : len(a.F32)/5*(i+1)] }
			alone := result(t, s, map[string]op.Array{"x": op.Floats(row(x), 1, 32, size, size)})
			if !slices.Equal(alone.F32, row(all)) {
				t.Errorf("size %d: image %d is another one alone", size, i)
			}
		}
	}
}

func result(t *testing.T, s *ort.Session, inputs map[string]op.Array) op.Array {
	t.Helper()
	outputs, err := s.Run(t.Context(), inputs)
	if err != nil {
		t.Fatal(err)
	}
	return outputs["y"]
}

// compare holds a graph's output with our operators against that without.
func compare(t *testing.T, weights, inputs map[string]op.Array, y func(op.Scope) op.Tensor) {
	t.Helper()
	want := result(t, session(t, graph(t, weights, false, y)), inputs)
	optest.Near(t, "y", result(t, session(t, graph(t, weights, true, y)), inputs), want, 1e-4)
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

// convSession is one convolution of x [., in, ., .].
func convSession(t testing.TB, weights map[string]op.Array, own bool) *ort.Session {
	w := weights["conv.weight"].Dims
	return session(t, graph(t, weights, own, func(s op.Scope) op.Tensor {
		x := s.Input("x", op.Float32, -1, w[1], -1, -1)
		return x.Conv2D(s.At("conv").Weight("weight", w...), s.At("conv").Weight("bias", w[0]), 1, 1)
	}))
}

// linearSession is a linear layer of x [., ., in].
func linearSession(t testing.TB, weights map[string]op.Array, own bool) *ort.Session {
	return session(t, graph(t, weights, own, linear(weights)))
}

func linear(weights map[string]op.Array) func(op.Scope) op.Tensor {
	w := weights["linear.weight"].Dims
	return func(s op.Scope) op.Tensor {
		return s.Input("x", op.Float32, -1, -1, w[1]).Linear(s.At("linear").Weight("weight", w...), s.At("linear").Weight("bias", w[0]))
	}
}

// loraLinear is the same layer with a change of each sample, down and up.
func loraLinear(weights map[string]op.Array) func(op.Scope) op.Tensor {
	w := weights["linear.weight"].Dims
	return func(s op.Scope) op.Tensor {
		down, up := s.Input("down", op.Float32, -1, w[1], -1), s.Input("up", op.Float32, -1, -1, w[0])
		return s.Input("x", op.Float32, -1, -1, w[1]).LoRALinear(s.At("linear").Weight("weight", w...), s.At("linear").Weight("bias", w[0]), down, up)
	}
}

type attentionSizes struct{ batch, heads, queries, keys, size int }

func (a attentionSizes) inputs() map[string]op.Array {
	return map[string]op.Array{
		"query": filled(a.batch, a.queries, a.heads*a.size), "key": filled(a.batch, a.keys, a.heads*a.size), "value": filled(a.batch, a.keys, a.heads*a.size),
	}
}

func (a attentionSizes) attention(s op.Scope) op.Tensor {
	input := func(name string) op.Tensor { return s.Input(name, op.Float32, -1, -1, a.heads*a.size) }
	return input("query").Attention(input("key"), input("value"), op.Tensor{}, a.heads, a.size)
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

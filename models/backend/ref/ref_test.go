package ref_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/op"
	"likeness/models/op/optest"
)

type (
	tensors = []op.Tensor
	model   = func(s op.Scope, x tensors) op.Tensor
)

// golden names each case of scripts/golden/ops.py and says it in the language of op.
var golden = map[string]model{
	"matmul":      func(_ op.Scope, x tensors) op.Tensor { return x[0].MatMul(x[1]) },
	"linear":      func(_ op.Scope, x tensors) op.Tensor { return x[0].Linear(x[1], x[2]) },
	"conv2d":      func(_ op.Scope, x tensors) op.Tensor { return x[0].Conv2D(x[1], x[2], 2, 1) },
	"conv2d_flat": func(_ op.Scope, x tensors) op.Tensor { return x[0].Conv2D(x[1], op.Tensor{}, 1, 1) },
	"pad_conv2d":  func(_ op.Scope, x tensors) op.Tensor { return x[0].Pad(0, 1, 0, 1).Conv2D(x[1], x[2], 2, 0) },
	"pad":         func(_ op.Scope, x tensors) op.Tensor { return x[0].Pad(1, 2, 3, 4) },
	"group_norm":  func(_ op.Scope, x tensors) op.Tensor { return x[0].GroupNorm(3, x[1], x[2], 1e-5) },
	"layer_norm":  func(_ op.Scope, x tensors) op.Tensor { return x[0].LayerNorm(x[1], x[2], 0.25) },
	"softmax":     func(_ op.Scope, x tensors) op.Tensor { return x[0].Scale(300).Softmax(1) },
	"mean":        func(_ op.Scope, x tensors) op.Tensor { return x[0].Mean(0, -1) },
	"max":         func(_ op.Scope, x tensors) op.Tensor { return x[0].Max(1, 2) },
	"argmax":      func(s op.Scope, x tensors) op.Tensor { return round(s, x[0]).ArgMax(-2) },
	"where":       func(_ op.Scope, x tensors) op.Tensor { return x[0].Less(x[1]).Where(x[0], x[1].Scale(2)) },
	"equal":       func(_ op.Scope, x tensors) op.Tensor { return x[0].Equal(x[0].Max(1)).Cast(op.Float32) },
	"permute":     func(_ op.Scope, x tensors) op.Tensor { return x[0].Transpose(2, 0, 1) },
	"reshape":     func(_ op.Scope, x tensors) op.Tensor { return x[0].Reshape(0, 3, -1) },
	"concat":      func(_ op.Scope, x tensors) op.Tensor { return x[0].Concat(1, x[1]) },
	"slice":       func(_ op.Scope, x tensors) op.Tensor { return x[0].Slice(1, 2, 7) },
	"expand":      func(_ op.Scope, x tensors) op.Tensor { return x[0].Expand(x[1]) },
	"upsample":    func(_ op.Scope, x tensors) op.Tensor { return x[0].Upsample2x() },
	"gather":      func(_ op.Scope, x tensors) op.Tensor { return x[0].Gather(x[1]) },
	"gelu":        func(_ op.Scope, x tensors) op.Tensor { return x[0].Scale(3).GELU() },
	"silu":        func(_ op.Scope, x tensors) op.Tensor { return x[0].Scale(3).SiLU() },
	"tanh":        func(_ op.Scope, x tensors) op.Tensor { return x[0].Tanh() },
	"sin":         func(_ op.Scope, x tensors) op.Tensor { return x[0].Scale(20).Sin() },
	"cos":         func(_ op.Scope, x tensors) op.Tensor { return x[0].Scale(20).Cos() },
	"log":         func(_ op.Scope, x tensors) op.Tensor { return x[0].Mul(x[0]).Offset(0.5).Log() },
	"sqrt":        func(_ op.Scope, x tensors) op.Tensor { return x[0].Mul(x[0]).Offset(0.5).Sqrt() },
	"exp":         func(_ op.Scope, x tensors) op.Tensor { return x[0].Exp() },
	"trunc":       func(_ op.Scope, x tensors) op.Tensor { return x[0].Scale(3).Cast(op.Int64) },
	"attention":   func(_ op.Scope, x tensors) op.Tensor { return x[0].Attention(x[1], x[2], x[3], 2, 3) },
}

// round is the nearest integer, for numbers that are not halfway between two.
func round(s op.Scope, x op.Tensor) op.Tensor {
	zero := s.Const([]float32{0})
	return x.Less(zero).Where(x.Offset(-0.5), x.Offset(0.5)).Cast(op.Int64).Cast(op.Float32)
}

// TestGolden holds the primitives against PyTorch.
func TestGolden(t *testing.T) {
	arrays := optest.Read(t, "testdata/ops.safetensors")
	cases := 0
	for name, want := range arrays {
		name, ok := strings.CutSuffix(name, ".y")
		if !ok {
			continue
		}
		cases++
		t.Run(name, func(t *testing.T) {
			f, ok := golden[name]
			if !ok {
				t.Fatal("no model computes this case")
			}
			got, err := ref.Run(func(s op.Scope) map[string]op.Tensor {
				var x tensors
				for i := 0; ; i++ {
					a, ok := arrays[fmt.Sprint(name, ".", i)]
					if !ok {
						return map[string]op.Tensor{"y": f(s, x)}
					}
					dt := op.Float32
					if a.I64 != nil {
						dt = op.Int64
					}
					x = append(x, s.Input(fmt.Sprint(name, ".", i), dt, a.Dims...))
				}
			}, nil, arrays)
			if err != nil {
				t.Fatal(err)
			}
			optest.Near(t, name, got["y"], want, 1e-5)
		})
	}
	if cases != len(golden) {
		t.Errorf("%d cases in the file, %d models", cases, len(golden))
	}
}

// TestClosedForms holds what can be worked out by hand.
func TestClosedForms(t *testing.T) {
	x := []float32{-3, -1, 0, 0.5, 2}
	for name, c := range map[string]struct {
		f    func(op.Tensor) op.Tensor
		want func(float64) float64
	}{
		"Neg":       {op.Tensor.Neg, func(x float64) float64 { return -x }},
		"Sigmoid":   {op.Tensor.Sigmoid, func(x float64) float64 { return 0.5 * (1 + math.Tanh(x/2)) }},
		"Erf":       {op.Tensor.Erf, func(x float64) float64 { return 1 - math.Erfc(x) }},
		"QuickGELU": {op.Tensor.QuickGELU, func(x float64) float64 { return x / (1 + math.Exp(-1.702*x)) }},
		"x-x":       {func(x op.Tensor) op.Tensor { return x.Sub(x) }, func(float64) float64 { return 0 }},
		"x/(x+4)":   {func(x op.Tensor) op.Tensor { return x.Div(x.Offset(4)) }, func(x float64) float64 { return x / (x + 4) }},
		"x+x·x":     {func(x op.Tensor) op.Tensor { return x.Add(x.Mul(x)) }, func(x float64) float64 { return x + x*x }},
		"x≠0":       {func(x op.Tensor) op.Tensor { return x.Cast(op.Bool).Cast(op.Float32) }, func(x float64) float64 { return math.Min(1, math.Abs(2*x)) }},
	} {
		got, err := ref.Run(func(s op.Scope) map[string]op.Tensor {
			return map[string]op.Tensor{"y": c.f(s.Input("x", op.Float32, -1))}
		}, nil, map[string]op.Array{"x": op.Floats(x, len(x))})
		if err != nil {
			t.Fatal(err)
		}
		want := op.Floats(make([]float32, len(x)), len(x))
		for i, v := range x {
			want.F32[i] = float32(c.want(float64(v)))
		}
		optest.Near(t, name, got["y"], want, 1e-6)
	}
}

func TestRunRefuses(t *testing.T) {
	x := func(s op.Scope) op.Tensor { return s.Input("x", op.Float32, -1, 2) }
	good := op.Floats(make([]float32, 4), 2, 2)
	for want, c := range map[string]struct {
		f     func(op.Scope) op.Tensor
		input op.Array
	}{
		"Input x: has dims [2 3], want float32 [-1 2]": {x, op.Floats(make([]float32, 6), 2, 3)},
		"Input x: has dims [2], want":                  {x, op.Floats(make([]float32, 2), 2)},
		"Input x: has dims [1 2], want float32":        {x, op.Ints(make([]int64, 2), 1, 2)},
		"Input x: array of dims [2 2] holds 3":         {x, op.Floats(make([]float32, 3), 2, 2)},
		"Input z: is not given":                        {func(s op.Scope) op.Tensor { return s.Input("z", op.Float32, 1) }, good},
		"output y: is bool":                            {func(s op.Scope) op.Tensor { return x(s).Less(x(s)) }, good},
		"output y: an operand is missing":              {func(s op.Scope) op.Tensor { return op.Tensor{} }, good},
		"Exp: operand of dims [2 2] is int64":          {func(s op.Scope) op.Tensor { return x(s).Cast(op.Int64).Exp() }, good},
		"Gather: row 2 of dims [2 2]":                  {func(s op.Scope) op.Tensor { return x(s).Gather(x(s).Offset(2).Cast(op.Int64)) }, good},
		"Pad: of dims [2 2] by -1":                     {func(s op.Scope) op.Tensor { return x(s).Pad(-1, 0, 0, 0) }, good},
		"Const: array of dims [3] holds 2":             {func(s op.Scope) op.Tensor { return s.Const(make([]float32, 2), 3) }, good},
	} {
		_, err := ref.Run(func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": c.f(s)} }, nil, map[string]op.Array{"x": c.input})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the error is %v, want one that begins with %q", err, want)
		}
	}
}

// TestOutputsBelongToCaller changes an output that is an input or a weight as it came.
func TestOutputsBelongToCaller(t *testing.T) {
	x, w := op.Floats([]float32{1, 2}, 2), op.Floats([]float32{3, 4}, 2)
	got, err := ref.Run(func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"x": s.Input("x", op.Float32, 2), "w": s.Weight("w", 2).Reshape(2, 1)}
	}, map[string]op.Array{"w": w}, map[string]op.Array{"x": x})
	if err != nil {
		t.Fatal(err)
	}
	got["x"].F32[0], got["w"].F32[0] = 9, 9
	if x.F32[0] != 1 || w.F32[0] != 3 {
		t.Error("an output shares its memory with what went in")
	}
}

package optest

import "likeness/models/op"

// list is one input or weight, or several.
func list(a ...op.Array) []op.Array { return a }

// of makes an example of one normal input.
func of(name string, dims []int, f func(x op.Tensor) op.Tensor) example {
	return example{name: name, x: list(Normal(name, dims...)), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return f(x[0]) }}
}

// pair makes an example of two normal inputs.
func pair(name string, a, b []int, f func(x, y op.Tensor) op.Tensor) example {
	return example{name: name, x: list(Normal(name+"a", a...), Normal(name+"b", b...)), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return f(x[0], x[1]) }}
}

func dims(d ...int) []int { return d }

var (
	shifted = op.Floats([]float32{-700, -88, -20, -1, -1e-3, 0, 1e-3, 1, 20, 88}, 2, 5)
	small   = op.Ints([]int64{0, 1, 2, 3, 2, 1}, 2, 3)
)

var elementwise = []example{
	of("Identity", dims(3, 1, 2), func(x op.Tensor) op.Tensor { return x }),
	of("Neg", dims(3, 5), op.Tensor.Neg),
	of("Exp", dims(3, 5), op.Tensor.Exp),
	of("Log", dims(3, 5), func(x op.Tensor) op.Tensor { return x.Mul(x).Offset(1e-3).Log() }),
	of("Sqrt", dims(1, 7), func(x op.Tensor) op.Tensor { return x.Mul(x).Sqrt() }),
	of("Sin", dims(3, 5), func(x op.Tensor) op.Tensor { return x.Scale(30).Sin() }),
	of("Cos", dims(3, 5), func(x op.Tensor) op.Tensor { return x.Scale(30).Cos() }),
	of("Tanh", dims(3, 5), op.Tensor.Tanh),
	of("Erf", dims(3, 5), op.Tensor.Erf),
	of("GELU", dims(2, 3, 7), op.Tensor.GELU),
	of("SiLU", dims(2, 3, 7), op.Tensor.SiLU),
	of("QuickGELU", dims(1, 13), op.Tensor.QuickGELU),
	of("GEGLU", dims(2, 3, 14), func(t op.Tensor) op.Tensor { return t.GEGLU(7) }),
	{name: "Sigmoid far out", x: list(shifted), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Sigmoid() }},
	{name: "SiLU far out", x: list(shifted), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].SiLU() }},
	{name: "GELU far out", x: list(shifted), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].GELU() }},
	{name: "GEGLU far out", x: list(shifted), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Concat(-1, x[0]).GEGLU(5) }},
	{name: "Tanh far out", x: list(shifted), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Tanh() }},

	pair("Add", dims(2, 3), dims(2, 3), op.Tensor.Add),
	pair("Add of fewer axes", dims(2, 3, 4), dims(4), op.Tensor.Add),
	pair("Sub of more axes", dims(3, 1), dims(2, 1, 4), op.Tensor.Sub),
	pair("Mul both ways", dims(3, 1, 5), dims(1, 4, 1), op.Tensor.Mul),
	pair("Div by a column", dims(3, 4), dims(3, 1), func(x, y op.Tensor) op.Tensor { return x.Div(y.Mul(y).Offset(0.5)) }),
	pair("Less", dims(3, 4), dims(4), func(x, y op.Tensor) op.Tensor { return x.Less(y).Cast(op.Float32) }),
	of("Less of equals", dims(3, 4), func(x op.Tensor) op.Tensor { return x.Less(x).Cast(op.Float32) }),
	of("Equal", dims(3, 4), func(x op.Tensor) op.Tensor { return x.Equal(x.Max(1)).Cast(op.Float32) }),
	of("Scale and Offset", dims(1), func(x op.Tensor) op.Tensor { return x.Scale(-2.5).Offset(0.125) }),
	{name: "Const", x: list(Normal("const", 2, 3)), f: func(s op.Scope, x, _ []op.Tensor) op.Tensor {
		return x[0].Add(s.Const([]float32{1, 2, 3}, 3)).Mul(s.Const([]float32{4}))
	}},
	{name: "one weight read twice", x: list(Normal("x", 2, 3)), w: list(Normal("w", 3)), f: func(s op.Scope, x, w []op.Tensor) op.Tensor {
		return x[0].Mul(w[0]).Add(s.Weight("w0", 3))
	}},

	{name: "Add of integers", x: list(small, op.Ints([]int64{5, -7, 9}, 3)), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Add(x[1]) }},
	{name: "Mul and Sub of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Mul(x[0]).Sub(x[0]) }},
	{name: "Equal of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor {
		return x[0].Equal(x[0].Slice(0, 1, 2)).Cast(op.Int64)
	}},
	{name: "Cast to float32", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Cast(op.Float32).Scale(0.5) }},
	{name: "Cast to int64", x: list(op.Floats([]float32{-1.75, -0.5, 0, 0.999, 1, 2.5}, 6)), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor {
		return x[0].Cast(op.Int64)
	}},
	{name: "Cast to bool", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Cast(op.Bool).Cast(op.Float32) }},
	{name: "Where", x: list(Normal("p", 2, 1, 4), Normal("q", 3, 1)), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor {
		return x[0].Less(x[0].Neg()).Where(x[1], x[0])
	}},
	{name: "Where between constants", x: list(Normal("p", 2, 5)), f: func(s op.Scope, x, _ []op.Tensor) op.Tensor {
		return x[0].Less(s.Const([]float32{0})).Where(s.Const([]float32{-1}), s.Const([]float32{1}, 1, 1))
	}},
	{name: "Where of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor {
		return x[0].Less(x[0].Slice(1, 1, 2)).Where(x[0], x[0].Add(x[0]))
	}},
}

package optest

import (
	"math"

	"likeness/models/op"
)

// large is normal numbers far from zero, whose exponentials overflow.
var large = func() op.Array {
	a := Normal("large", 2, 3, 4)
	for i := range a.F32 {
		a.F32[i] = 1000 + 20*a.F32[i]
	}
	return a
}()

// ties has its maximum more than once in each line of both axes.
var ties = op.Floats([]float32{1, 3, 3, 3, 3, 2, 1, 2, 0, 3, 0, 3}, 3, 4)

var reductions = []example{
	of("Mean", dims(2, 3, 4), func(x op.Tensor) op.Tensor { return x.Mean(1) }),
	of("Mean over two", dims(2, 3, 4, 5), func(x op.Tensor) op.Tensor { return x.Mean(-1, -2) }),
	of("Mean over all", dims(3, 5), func(x op.Tensor) op.Tensor { return x.Mean(0, 1) }),
	of("Mean of one", dims(3, 1), func(x op.Tensor) op.Tensor { return x.Mean(1) }),
	of("Max", dims(2, 3, 4), func(x op.Tensor) op.Tensor { return x.Max(-2) }),
	of("Max over two", dims(2, 3, 4), func(x op.Tensor) op.Tensor { return x.Neg().Max(0, 2) }),
	of("ArgMax", dims(5, 4), func(x op.Tensor) op.Tensor { return x.ArgMax(1) }),
	of("ArgMax middle axis", dims(2, 5, 3), func(x op.Tensor) op.Tensor { return x.ArgMax(-2) }),
	{name: "ArgMax of ties", x: list(ties), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].ArgMax(1) }},
	{name: "ArgMax of ties down", x: list(ties), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].ArgMax(0) }},
	of("Softmax", dims(2, 7), func(x op.Tensor) op.Tensor { return x.Softmax(-1) }),
	of("Softmax of one", dims(2, 1), func(x op.Tensor) op.Tensor { return x.Softmax(1) }),
	{name: "Softmax middle axis of large numbers", x: list(large), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Softmax(1) }},
	{name: "Softmax first axis of large numbers", x: list(large), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Neg().Softmax(0) }},
}

// conv makes an example of a convolution of x by a kernel, with a bias of its own where biased.
func conv(name string, x, kernel []int, biased bool, stride, padding int) example {
	e := example{name: name, x: list(Normal("x", x...)), w: list(Normal("w", kernel...), Normal("b", kernel[0]))}
	e.f = func(_ op.Scope, x, w []op.Tensor) op.Tensor {
		var bias op.Tensor
		if biased {
			bias = w[1]
		}
		return x[0].Conv2D(w[0], bias, stride, padding)
	}
	return e
}

// upsample makes an example of a convolution of x, doubled, by a kernel, with a bias of its own where biased.
func upsample(name string, x, kernel []int, biased bool) example {
	e := conv(name, x, kernel, biased, 1, 1)
	e.f = func(_ op.Scope, x, w []op.Tensor) op.Tensor {
		if biased {
			return x[0].UpsampleConv2D(w[0], w[1])
		}
		return x[0].UpsampleConv2D(w[0], op.Tensor{})
	}
	return e
}

// norm makes an example of a normalisation of x, far from zero, over channels.
func norm(name string, channels int, x []int, f func(x, weight, bias op.Tensor) op.Tensor) example {
	return example{name: name, x: list(Normal("x", x...)), w: list(Normal("w", channels), Normal("b", channels)), f: func(_ op.Scope, x, w []op.Tensor) op.Tensor {
		return f(x[0].Scale(3).Offset(5), w[0], w[1])
	}}
}

// attention makes an example of attention with query [batch, n, heads·d] over length keys.
func attention(name string, batch, n, length, heads, d int, mask ...op.Array) example {
	e := example{name: name, x: list(Normal("q", batch, n, heads*d), Normal("k", batch, length, heads*d), Normal("v", batch, length, heads*d))}
	e.x = append(e.x, mask...)
	e.f = func(_ op.Scope, x, _ []op.Tensor) op.Tensor {
		var m op.Tensor
		if len(x) > 3 {
			m = x[3]
		}
		return x[0].Attention(x[1], x[2], m, heads, d)
	}
	return e
}

// causal is the mask of attention over n places that look back only, of these dims.
func causal(n int, dims ...int) op.Array {
	a := op.Floats(make([]float32, n*n), dims...)
	for i := range a.F32 {
		if i%n > i/n {
			a.F32[i] = -math.MaxFloat32 / 2
		}
	}
	return a
}

var networks = []example{
	pair("MatMul", dims(3, 4), dims(4, 5), op.Tensor.MatMul),
	pair("MatMul of one row", dims(1, 7), dims(7, 1), op.Tensor.MatMul),
	pair("MatMul batched", dims(2, 3, 3, 4), dims(2, 3, 4, 5), op.Tensor.MatMul),
	pair("MatMul by one matrix", dims(3, 2, 4), dims(4, 5), op.Tensor.MatMul),
	pair("MatMul broadcast both ways", dims(3, 1, 2, 4), dims(5, 4, 2), op.Tensor.MatMul),
	{name: "Linear", x: list(Normal("x", 3, 4)), w: list(Normal("w", 5, 4), Normal("b", 5)), f: linear},
	{name: "Linear over three axes", x: list(Normal("x", 3, 2, 4)), w: list(Normal("w", 1, 4), Normal("b", 1)), f: linear},
	{name: "Linear without bias", x: list(Normal("x", 1, 3, 4)), w: list(Normal("w", 5, 4)), f: linear},

	conv("Conv2D", dims(2, 3, 6, 5), dims(4, 3, 3, 3), true, 1, 1),
	conv("Conv2D without bias", dims(1, 3, 6, 9), dims(2, 3, 3, 3), false, 3, 0),
	conv("Conv2D by stride 2", dims(3, 2, 7, 8), dims(3, 2, 3, 3), true, 2, 1),
	conv("Conv2D of one place", dims(2, 3, 4, 5), dims(5, 3, 1, 1), true, 1, 0),
	conv("Conv2D not square", dims(1, 2, 5, 7), dims(2, 2, 1, 3), true, 1, 1),
	upsample("UpsampleConv2D", dims(2, 3, 4, 5), dims(6, 3, 3, 3), true),
	upsample("UpsampleConv2D without bias", dims(1, 2, 3, 1), dims(2, 2, 3, 3), false),
	upsample("UpsampleConv2D of one place", dims(1, 1, 1, 1), dims(1, 1, 3, 3), true),
	conv("Conv2D of the whole image", dims(3, 1, 2, 3), dims(2, 1, 4, 5), true, 2, 1),
	{name: "Conv2D after an asymmetric Pad", x: list(Normal("x", 1, 2, 6, 4)), w: list(Normal("w", 3, 2, 3, 3), Normal("b", 3)), f: func(_ op.Scope, x, w []op.Tensor) op.Tensor {
		return x[0].Pad(0, 1, 0, 1).Conv2D(w[0], w[1], 2, 0)
	}},

	norm("GroupNorm", 6, dims(3, 6, 4, 5), func(x, w, b op.Tensor) op.Tensor { return x.GroupNorm(3, w, b, 1e-5) }),
	norm("GroupNorm of one group", 4, dims(1, 4, 1, 3), func(x, w, b op.Tensor) op.Tensor { return x.GroupNorm(1, w, b, 1e-6) }),
	norm("GroupNorm of each channel", 4, dims(2, 4, 5), func(x, w, b op.Tensor) op.Tensor { return x.GroupNorm(4, w, b, 0.5) }),
	norm("LayerNorm", 5, dims(3, 5), func(x, w, b op.Tensor) op.Tensor { return x.LayerNorm(w, b, 1e-5) }),
	norm("LayerNorm over three axes", 7, dims(1, 2, 7), func(x, w, b op.Tensor) op.Tensor { return x.LayerNorm(w, b, 0.25) }),

	attention("Attention", 2, 5, 5, 2, 4),
	attention("Attention over fewer keys", 3, 6, 2, 3, 5),
	attention("Attention of one head and query", 1, 1, 7, 1, 8),
	attention("Attention causal", 2, 4, 4, 2, 3, causal(4, 1, 1, 4, 4)),
	attention("Attention with a matrix mask", 3, 3, 3, 2, 4, causal(3, 3, 3)),
	attention("Attention with a mask of samples", 2, 3, 4, 2, 3, Normal("mask", 2, 1, 1, 4)),
	attention("Attention with a mask of heads", 1, 3, 4, 2, 3, Normal("mask", 1, 2, 3, 4)),

	{name: "Offsets of two concepts", x: list(Normal("x", 3, 2, 4), Normal("packed", 3, 2, 2*(4+5))), w: list(Normal("w", 5, 4)), f: offset},
	{name: "Offsets of all samples", x: list(Normal("x", 3, 2, 4), Normal("packed", 1, 2, 2*(4+5))), w: list(Normal("w", 5, 4)), f: offset},
	{name: "Offsets of one concept", x: list(Normal("x", 1, 3, 4), Normal("packed", 1, 1, 2*(4+5))), w: list(Normal("w", 5, 4)), f: offset},
}

func linear(_ op.Scope, x, w []op.Tensor) op.Tensor {
	var bias op.Tensor
	if len(w) > 1 {
		bias = w[1]
	}
	return x[0].Linear(w[0], bias)
}

// offset adds the packed offsets x[1] of rank 2 to a linear layer.
func offset(s op.Scope, x, w []op.Tensor) op.Tensor {
	layout, err := op.NewLayout(2, []op.Target{{Path: s.Path(), In: 4, Out: 5}})
	if err != nil {
		s.Fail("%v", err)
	}
	down, up, _ := s.WithOffsets(layout, x[1]).Delta(4, 5)
	return x[0].LoRALinear(w[0], op.Tensor{}, down, up)
}

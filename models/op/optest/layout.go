package optest

import "likeness/models/op"

var layouts = []example{
	of("Reshape", dims(2, 3, 4), func(x op.Tensor) op.Tensor { return x.Reshape(4, 6) }),
	of("Reshape inferred", dims(3, 2, 4), func(x op.Tensor) op.Tensor { return x.Reshape(0, -1) }),
	of("Reshape copies two", dims(3, 5, 8), func(x op.Tensor) op.Tensor { return x.Reshape(0, 0, 2, 4) }),
	of("Reshape between copies", dims(3, 5, 8), func(x op.Tensor) op.Tensor { return x.Reshape(-1, 0, 4) }),
	of("Reshape to one axis", dims(1, 5, 1), func(x op.Tensor) op.Tensor { return x.Reshape(-1) }),
	of("Reshape to a scalar", dims(1, 1), func(x op.Tensor) op.Tensor { return x.Reshape() }),
	pair("ReshapeLike", dims(3, 8, 5), dims(3, 5, 2, 4), func(x, y op.Tensor) op.Tensor { return x.ReshapeLike(y, 0, 0, 0, 0) }),
	pair("ReshapeLike in part", dims(3, 40), dims(7, 5, 2, 4), func(x, y op.Tensor) op.Tensor { return x.ReshapeLike(y, 3, 0, -1, 0) }),
	pair("ReshapeLike with numbers between", dims(2, 12, 5), dims(2, 3, 4, 1), func(x, y op.Tensor) op.Tensor { return x.ReshapeLike(y, 0, 5, 0, 3) }),
	{name: "Reshape of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Reshape(3, -1, 1) }},

	of("Transpose", dims(2, 3), func(x op.Tensor) op.Tensor { return x.Transpose(1, 0) }),
	of("Transpose four axes", dims(2, 3, 4, 5), func(x op.Tensor) op.Tensor { return x.Transpose(0, 2, 3, 1) }),
	of("Transpose a turn", dims(1, 3, 2), func(x op.Tensor) op.Tensor { return x.Transpose(2, 0, 1) }),
	of("Transpose then Reshape", dims(2, 3, 4), func(x op.Tensor) op.Tensor { return x.Transpose(0, 2, 1).Reshape(0, -1) }),
	{name: "Transpose of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Transpose(1, 0) }},

	pair("Concat", dims(2, 3, 4), dims(2, 1, 4), func(x, y op.Tensor) op.Tensor { return x.Concat(1, y, x) }),
	pair("Concat last axis", dims(3, 2), dims(3, 5), func(x, y op.Tensor) op.Tensor { return x.Concat(-1, y) }),
	pair("Concat first axis", dims(1, 2), dims(3, 2), func(x, y op.Tensor) op.Tensor { return x.Concat(0, y) }),
	of("Concat of one", dims(2, 3), func(x op.Tensor) op.Tensor { return x.Concat(1) }),
	{name: "Concat of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Concat(0, x[0]) }},

	of("Slice the start", dims(3, 7), func(x op.Tensor) op.Tensor { return x.Slice(1, 0, 1) }),
	of("Slice to the end", dims(3, 7), func(x op.Tensor) op.Tensor { return x.Slice(-1, 4, 7) }),
	of("Slice all", dims(3, 7), func(x op.Tensor) op.Tensor { return x.Slice(0, 0, 3) }),
	of("Slice the middle axis", dims(2, 5, 3), func(x op.Tensor) op.Tensor { return x.Slice(1, 1, 3).Slice(-2, 1, 2) }),
	of("Chunk", dims(2, 6, 3), func(x op.Tensor) op.Tensor {
		parts := x.Chunk(1, 3, 2)
		return parts[2].Sub(parts[0]).Mul(parts[1])
	}),
	{name: "Slice of integers", x: list(small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[0].Slice(1, 1, 3) }},

	{name: "Gather by a vector", x: list(op.Ints([]int64{3, 0, 3}, 3)), w: list(Normal("table", 4, 5)), f: gather},
	{name: "Gather by a matrix", x: list(small), w: list(Normal("table", 4, 5)), f: gather},
	{name: "Gather matrices", x: list(small), w: list(Normal("table", 4, 2, 3)), f: gather},
	{name: "Gather numbers", x: list(small), w: list(Normal("table", 4)), f: gather},
	{name: "Gather integers", x: list(op.Ints([]int64{1, 0}, 2), small), f: func(_ op.Scope, x, _ []op.Tensor) op.Tensor { return x[1].Gather(x[0]) }},

	pair("Expand", dims(1, 3, 1), dims(2, 3, 4), op.Tensor.Expand),
	pair("Expand of fewer axes", dims(4), dims(2, 3, 4), op.Tensor.Expand),
	pair("Expand of equal dims", dims(2, 1), dims(2, 1), op.Tensor.Expand),
	pair("Expand then Concat", dims(1, 1, 4), dims(3, 2, 4), func(x, y op.Tensor) op.Tensor { return x.Expand(y.Slice(1, 0, 1)).Concat(1, y) }),

	of("Pad", dims(2, 3, 4, 5), func(x op.Tensor) op.Tensor { return x.Pad(1, 2, 3, 4) }),
	of("Pad right and bottom", dims(1, 3, 5, 4), func(x op.Tensor) op.Tensor { return x.Pad(0, 1, 0, 1) }),
	of("Pad a matrix", dims(3, 1), func(x op.Tensor) op.Tensor { return x.Pad(2, 0, 1, 0) }),
	of("Upsample2x", dims(3, 2, 3, 5), op.Tensor.Upsample2x),
	of("Upsample2x of one place", dims(1, 1, 1, 1), op.Tensor.Upsample2x),
}

func gather(_ op.Scope, x, w []op.Tensor) op.Tensor { return w[0].Gather(x[0]) }

//go:build torch

package torch

import (
	"fmt"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

func (b *builder) Unary(k op.UnaryOp, v op.Value) (op.Value, error) {
	f, ok := map[op.UnaryOp]func(*lib.Ctensor, lib.Ctensor){
		op.Neg: lib.AtgNeg, op.Exp: lib.AtgExp, op.Log: lib.AtgLog, op.Sqrt: lib.AtgSqrt, op.Sin: lib.AtgSin, op.Cos: lib.AtgCos,
		op.Tanh: lib.AtgTanh, op.Sigmoid: lib.AtgSigmoid, op.Erf: lib.AtgErf,
	}[k]
	if !ok {
		return nil, fmt.Errorf("unknown function %d", k)
	}
	x := v.(*tensor)
	if k == op.Exp || k == op.Log || k == op.Sqrt {
		var err error
		if x, err = b.full(v); err != nil {
			return nil, err
		}
	}
	return b.result(k.String(), func(out *lib.Ctensor) { f(out, x.c) })
}

func (b *builder) Binary(k op.BinaryOp, v, w op.Value) (op.Value, error) {
	f, ok := map[op.BinaryOp]func(*lib.Ctensor, lib.Ctensor, lib.Ctensor){
		op.Add: lib.AtgAdd, op.Sub: lib.AtgSub, op.Mul: lib.AtgMul, op.Div: lib.AtgDiv, op.Less: lib.AtgLessTensor, op.Equal: lib.AtgEqTensor,
	}[k]
	if !ok {
		return nil, fmt.Errorf("unknown function %d", k)
	}
	t, err := operands(v, w)
	if err != nil {
		return nil, err
	}
	x, y := t[0], t[1]
	if (x.kind == kindInt64) != (y.kind == kindInt64) || (x.kind == kindBool) != (y.kind == kindBool) {
		return nil, fmt.Errorf("tensors of different types")
	}
	return b.result(k.String(), func(out *lib.Ctensor) { f(out, x.c, y.c) })
}

// result runs an operation and returns it as a Value, nil on an error.
func (b *builder) result(name string, f func(*lib.Ctensor)) (op.Value, error) {
	return value(b.call(name, f))
}

// value makes a tensor a Value, and none an absent one.
func value(t *tensor, err error) (op.Value, error) {
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (b *builder) MatMul(v, w op.Value) (op.Value, error) {
	t, err := b.products(v, w)
	if err != nil {
		return nil, err
	}
	if len(t[0].dims) < 2 || len(t[1].dims) < 2 {
		return nil, fmt.Errorf("matrices of dims %v and %v", t[0].dims, t[1].dims)
	}
	return b.result("MatMul", func(out *lib.Ctensor) { lib.AtgMatmul(out, t[0].c, t[1].c) })
}

func (b *builder) Linear(x, weight, bias op.Value) (op.Value, error) {
	t, err := b.products(x, weight, bias)
	if err != nil {
		return nil, err
	}
	return b.result("Linear", func(out *lib.Ctensor) { lib.AtgLinear(out, t[0].c, t[1].c, t[2].c) })
}

func (b *builder) Conv2D(x, weight, bias op.Value, stride, padding int) (op.Value, error) {
	t, err := b.products(x, weight, bias)
	if err != nil {
		return nil, err
	}
	if len(t[0].dims) != 4 || len(t[1].dims) != 4 {
		return nil, fmt.Errorf("image of dims %v, kernel of dims %v", t[0].dims, t[1].dims)
	}
	if kernel := t[1].dims[2:]; t[0].kind == kindFloat && kernel[0] == 3 && kernel[1] == 3 && stride == 1 && padding == 1 {
		return value(b.conv3x3(t[0], t[1], t[2]))
	}
	image, err := b.channelsLast(t[0])
	if err != nil {
		return nil, err
	}
	s, p, d := []int64{int64(stride), int64(stride)}, []int64{int64(padding), int64(padding)}, []int64{1, 1}
	return b.result("Conv2D", func(out *lib.Ctensor) { lib.AtgConv2d(out, image.c, t[1].c, t[2].c, s, 2, p, 2, d, 2, 1) })
}

func (b *builder) GroupNorm(x op.Value, groups int, weight, bias op.Value, eps float64) (op.Value, error) {
	t, err := operands(x, weight, bias)
	if err != nil {
		return nil, err
	}
	if t[0].kind == kindBFloat16 && len(t[0].dims) == 4 {
		return value(b.groupNorm(t[0], groups, t[1], t[2], eps))
	}
	return b.result("GroupNorm", func(out *lib.Ctensor) { lib.AtgGroupNorm(out, t[0].c, int64(groups), t[1].c, t[2].c, eps, 0) })
}

func (b *builder) LayerNorm(x, weight, bias op.Value, eps float64) (op.Value, error) {
	t, err := operands(x, weight, bias)
	if err != nil {
		return nil, err
	}
	if len(t[1].dims) != 1 {
		return nil, fmt.Errorf("weight of dims %v", t[1].dims)
	}
	shape := []int64{int64(t[1].dims[0])}
	return b.result("LayerNorm", func(out *lib.Ctensor) { lib.AtgLayerNorm(out, t[0].c, shape, 1, t[1].c, t[2].c, eps, 0) })
}

func (b *builder) Softmax(x op.Value, dim int) (op.Value, error) {
	t := x.(*tensor)
	i, err := axis(t, dim)
	if err != nil {
		return nil, err
	}
	return b.result("Softmax", func(out *lib.Ctensor) { lib.AtgSoftmax(out, t.c, i, int32(t.kind)) })
}

func (b *builder) SiLU(x op.Value) (op.Value, error) {
	t := x.(*tensor)
	return b.result("SiLU", func(out *lib.Ctensor) { lib.AtgSilu(out, t.c) })
}

func (b *builder) GELU(x op.Value) (op.Value, error) {
	t := x.(*tensor)
	return b.result("GELU", func(out *lib.Ctensor) { lib.AtgGelu(out, t.c, "none") })
}

func (b *builder) Attention(query, key, value, mask op.Value, heads, headDim int) (op.Value, error) {
	t, err := b.products(query, key, value, mask)
	if err != nil {
		return nil, err
	}
	for i := range 3 {
		split, err := b.Reshape(t[i], nil, 0, 0, heads, headDim)
		if err != nil {
			return nil, err
		}
		if split, err = b.Transpose(split, 0, 2, 1, 3); err != nil {
			return nil, err
		}
		t[i] = split.(*tensor) // [B, heads, N, d]
	}
	y, err := b.attention(t[0], t[1], t[2], t[3])
	if err != nil {
		return nil, err
	}
	joined, err := b.Transpose(y, 0, 2, 1, 3)
	if err != nil {
		return nil, err
	}
	return b.Reshape(joined, nil, 0, 0, heads*headDim)
}

func (b *builder) axes(t *tensor, axes []int) ([]int64, error) {
	out := make([]int64, len(axes))
	for i, a := range axes {
		var err error
		if out[i], err = axis(t, a); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no axes")
	}
	return out, nil
}

func (b *builder) ReduceMean(x op.Value, dims ...int) (op.Value, error) {
	t := x.(*tensor)
	axes, err := b.axes(t, dims)
	if err != nil {
		return nil, err
	}
	return b.result("ReduceMean", func(out *lib.Ctensor) { lib.AtgMeanDim(out, t.c, axes, len(axes), 1, kindFloat) })
}

func (b *builder) ReduceMax(x op.Value, dims ...int) (op.Value, error) {
	t := x.(*tensor)
	axes, err := b.axes(t, dims)
	if err != nil {
		return nil, err
	}
	return b.result("ReduceMax", func(out *lib.Ctensor) { lib.AtgAmax(out, t.c, axes, len(axes), 1) })
}

func (b *builder) ArgMax(x op.Value, dim int) (op.Value, error) {
	t := x.(*tensor)
	i, err := axis(t, dim)
	if err != nil {
		return nil, err
	}
	return b.result("ArgMax", func(out *lib.Ctensor) { lib.AtgArgmax(out, t.c, i, 0, 0) })
}

func (b *builder) Where(cond, x, y op.Value) (op.Value, error) {
	t, err := operands(cond, x, y)
	if err != nil {
		return nil, err
	}
	if t[0].kind != kindBool {
		return nil, fmt.Errorf("the condition is no bool tensor")
	}
	return b.result("Where", func(out *lib.Ctensor) { lib.AtgWhereSelf(out, t[0].c, t[1].c, t[2].c) })
}

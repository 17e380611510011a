package onnx

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"likeness/models/op"
)

// Unary implements [op.Builder]; ONNX has each function under the same name.
func (b *builder) Unary(k op.UnaryOp, x op.Value) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	return b.node(k.String(), op.Float32, v[0].dims, nil, v[0]), nil
}

// Binary implements [op.Builder]; ONNX has each function under the same name.
func (b *builder) Binary(k op.BinaryOp, x, y op.Value) (op.Value, error) {
	v, err := alike(x, y)
	if err != nil {
		return nil, err
	}
	dims, err := broadcast(v[0].dims, v[1].dims)
	if err != nil {
		return nil, err
	}
	dt := v[0].dt
	if k == op.Less || k == op.Equal {
		dt = op.Bool
	}
	return b.node(k.String(), dt, dims, nil, v[0], v[1]), nil
}

// MatMul implements [op.Builder].
func (b *builder) MatMul(x, y op.Value) (op.Value, error) {
	v, err := operands(op.Float32, x, y)
	if err != nil {
		return nil, err
	}
	dims, err := matMulDims(v[0].dims, v[1].dims)
	if err != nil {
		return nil, err
	}
	return b.node("MatMul", op.Float32, dims, nil, v...), nil
}

// Conv2D implements [op.Builder].
func (b *builder) Conv2D(x, weight, bias op.Value, stride, padding int) (op.Value, error) {
	v, err := operands(op.Float32, x, weight)
	if err != nil {
		return nil, err
	}
	y, err := b.conv2D(v[0], v[1], bias, stride, [4]int{padding, padding, padding, padding})
	if err != nil {
		return nil, err
	}
	return y, nil
}

// conv2D is Conv2D with a padding of its own on each side: top, left, bottom, right.
func (b *builder) conv2D(x, weight *value, bias op.Value, stride int, pads [4]int) (*value, error) {
	inputs, biasDims := []*value{x, weight}, []int(nil)
	if bias != nil {
		v, err := operands(op.Float32, bias)
		if err != nil {
			return nil, err
		}
		inputs, biasDims = append(inputs, v[0]), v[0].dims
	}
	dims, err := conv2DDims(x.dims, weight.dims, biasDims, stride, pads)
	if err != nil {
		return nil, err
	}
	if b.ownOps && weight.dims[0]%8 == 0 {
		if bias == nil {
			inputs = append(inputs, b.filled(0, weight.dims[0]))
		}
		inputs[1] = asStored(weight)
		return b.node("Conv", op.Float32, dims, attrs{"domain": likeness, "stride": stride, "pads": pads[:]}, inputs...), nil
	}
	a := attrs{"kernel_shape": weight.dims[2:], "strides": []int{stride, stride}, "pads": pads[:]}
	return b.node("Conv", op.Float32, dims, a, inputs...), nil
}

// GroupNorm implements [op.Builder], without package ort's operator as InstanceNormalization over [B, groups, ...], then weight and bias of each
// channel.
func (b *builder) GroupNorm(x op.Value, groups int, weight, bias op.Value, eps float64) (op.Value, error) {
	v, err := operands(op.Float32, x, weight, bias)
	if err != nil {
		return nil, err
	}
	x0, w, rank := v[0], v[1], len(v[0].dims)
	if rank < 3 || len(w.dims) != 1 || !slices.Equal(w.dims, v[2].dims) || !agree(x0.dims[1], w.dims[0]) || groups < 1 || w.dims[0]%groups != 0 {
		return nil, fmt.Errorf("input %v in %d groups does not fit weight %v and bias %v", x0.dims, groups, w.dims, v[2].dims)
	}
	if b.ownOps {
		return b.groupNorm(v, groups, eps), nil
	}
	one, zero := b.filled(1, groups), b.filled(0, groups)
	h := b.node("Reshape", op.Float32, []int{x0.dims[0], groups, unknown}, nil, x0, b.ints(0, groups, -1))
	h = b.node("InstanceNormalization", op.Float32, h.dims, attrs{"epsilon": float32(eps)}, h, one, zero)
	h = b.node("Reshape", op.Float32, x0.dims, nil, h, b.shapeOf(x0))
	perChannel := make([]int, rank-1)
	for i := range perChannel {
		perChannel[i] = 1
	}
	perChannel[0] = w.dims[0]
	scale := b.node("Reshape", op.Float32, perChannel, nil, w, b.ints(perChannel...))
	shift := b.node("Reshape", op.Float32, perChannel, nil, v[2], b.ints(perChannel...))
	h = b.node("Mul", op.Float32, x0.dims, nil, h, scale)
	return b.node("Add", op.Float32, x0.dims, nil, h, shift), nil
}

// groupNorm is package ort's operator, which SiLU makes another one of.
func (b *builder) groupNorm(inputs []*value, groups int, eps float64) *value {
	a := attrs{"domain": likeness, "groups": groups, "epsilon": float32(eps), "silu": 0}
	out := b.value("GroupNorm", op.Float32, inputs[0].dims)
	out.late = func() { b.emit("GroupNorm", out.name, a, inputs) }
	out.silu = func() *value {
		a := maps.Clone(a)
		a["silu"] = 1
		return b.node("GroupNorm", op.Float32, out.dims, a, inputs...)
	}
	return out
}

// LayerNorm implements [op.Builder]. LayerNormalization is slow on CPUs, which have package ort's operator.
func (b *builder) LayerNorm(x, weight, bias op.Value, eps float64) (op.Value, error) {
	v, err := operands(op.Float32, x, weight, bias)
	if err != nil {
		return nil, err
	}
	rank := len(v[0].dims)
	if rank < 1 || len(v[1].dims) != 1 || !slices.Equal(v[1].dims, v[2].dims) || !agree(v[0].dims[rank-1], v[1].dims[0]) {
		return nil, fmt.Errorf("input %v does not fit weight %v and bias %v", v[0].dims, v[1].dims, v[2].dims)
	}
	if b.ownOps && rank > 1 {
		return b.node("LayerNorm", op.Float32, v[0].dims, attrs{"domain": likeness, "epsilon": float32(eps)}, v...), nil
	}
	return b.node("LayerNormalization", op.Float32, v[0].dims, attrs{"axis": -1, "epsilon": float32(eps)}, v...), nil
}

// Softmax implements [op.Builder].
func (b *builder) Softmax(x op.Value, axis int) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	if axis, err = axisOf(axis, len(v[0].dims)); err != nil {
		return nil, err
	}
	return b.node("Softmax", op.Float32, v[0].dims, attrs{"axis": axis}, v[0]), nil
}

// SiLU implements [op.SiLU]: QuickGelu is x·sigmoid(alpha·x).
func (b *builder) SiLU(x op.Value) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	if v[0].silu != nil {
		return v[0].silu(), nil
	}
	return b.node("QuickGelu", op.Float32, v[0].dims, attrs{"domain": microsoft, "alpha": float32(1)}, v[0]), nil
}

// GELU implements [op.GELU].
func (b *builder) GELU(x op.Value) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	return b.node("Gelu", op.Float32, v[0].dims, nil, v[0]), nil
}

// GEGLU implements [op.GEGLU].
func (b *builder) GEGLU(x op.Value, size int) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	rank := len(v[0].dims)
	if rank < 1 || size < 1 || !agree(v[0].dims[rank-1], 2*size) {
		return nil, fmt.Errorf("input %v has not twice %d values", v[0].dims, size)
	}
	if b.ownOps {
		dims := slices.Clone(v[0].dims)
		dims[rank-1] = size
		return b.node("GEGLU", op.Float32, dims, attrs{"domain": likeness}, v...), nil
	}
	first, err := b.Slice(x, -1, 0, size)
	if err != nil {
		return nil, err
	}
	second, err := b.Slice(x, -1, size, 2*size)
	if err != nil {
		return nil, err
	}
	if second, err = b.GELU(second); err != nil {
		return nil, err
	}
	return b.Binary(op.Mul, first, second)
}

// Attention implements [op.Attention].
func (b *builder) Attention(query, key, val, mask op.Value, heads, headDim int) (op.Value, error) {
	v, err := operands(op.Float32, query, key, val)
	if err != nil {
		return nil, err
	}
	q, k := v[0].dims, v[1].dims
	for _, x := range v {
		if len(x.dims) != 3 || !agree(x.dims[2], heads*headDim) || heads < 1 || headDim < 1 || !agree(x.dims[0], q[0]) {
			return nil, fmt.Errorf("query %v, key %v, value %v with %d heads of %d", q, k, v[2].dims, heads, headDim)
		}
	}
	if !agree(k[1], v[2].dims[1]) {
		return nil, fmt.Errorf("key %v and value %v differ in length", k, v[2].dims)
	}
	if b.ownOps && mask == nil && headDim%8 == 0 {
		return b.node("Attention", op.Float32, q, attrs{"domain": likeness, "heads": heads}, v...), nil
	}
	inputs := v
	if mask != nil {
		m, err := b.mask(mask, v[0], v[1])
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, nil, nil, m)
	}
	return b.node("MultiHeadAttention", op.Float32, q, attrs{"domain": microsoft, "num_heads": heads}, inputs...), nil
}

// mask expands an attention mask to [., ., N, L]: the kernel broadcasts over batch and heads only.
func (b *builder) mask(mask op.Value, query, key *value) (*value, error) {
	v, err := operands(op.Float32, mask)
	if err != nil {
		return nil, err
	}
	if len(v[0].dims) > 4 {
		return nil, fmt.Errorf("mask %v has more than 4 dims", v[0].dims)
	}
	length := b.shapeOf(key, 1, 2)
	shape := b.node("Concat", op.Int64, []int{4}, attrs{"axis": 0}, b.ints(1, 1), b.shapeOf(query, 1, 2), length)
	return b.node("Expand", op.Float32, []int{unknown, unknown, query.dims[1], key.dims[1]}, nil, v[0], shape), nil
}

func (b *builder) reduce(kind string, x op.Value, axes []int) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	if len(axes) == 0 {
		return nil, errors.New("no axes")
	}
	dims, at := slices.Clone(v[0].dims), make([]int, len(axes))
	for i, axis := range axes {
		if at[i], err = axisOf(axis, len(dims)); err != nil {
			return nil, err
		}
		dims[at[i]] = 1
	}
	return b.node(kind, op.Float32, dims, attrs{"keepdims": 1}, v[0], b.ints(at...)), nil
}

// ReduceMean implements [op.Builder].
func (b *builder) ReduceMean(x op.Value, axes ...int) (op.Value, error) {
	return b.reduce("ReduceMean", x, axes)
}

// ReduceMax implements [op.Builder].
func (b *builder) ReduceMax(x op.Value, axes ...int) (op.Value, error) {
	return b.reduce("ReduceMax", x, axes)
}

// ArgMax implements [op.Builder].
func (b *builder) ArgMax(x op.Value, axis int) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	if axis, err = axisOf(axis, len(v[0].dims)); err != nil {
		return nil, err
	}
	dims := slices.Delete(slices.Clone(v[0].dims), axis, axis+1)
	return b.node("ArgMax", op.Int64, dims, attrs{"axis": axis, "keepdims": 0}, v[0]), nil
}

// Where implements [op.Builder].
func (b *builder) Where(cond, x, y op.Value) (op.Value, error) {
	c, err := operands(op.Bool, cond)
	if err != nil {
		return nil, err
	}
	v, err := alike(x, y)
	if err != nil {
		return nil, err
	}
	dims, err := broadcast(v[0].dims, v[1].dims)
	if err == nil {
		dims, err = broadcast(dims, c[0].dims)
	}
	if err != nil {
		return nil, err
	}
	return b.node("Where", v[0].dt, dims, nil, c[0], v[0], v[1]), nil
}

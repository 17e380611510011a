package trace

import (
	"likeness/models/op"
)

// What follows is what each primitive's gradient reads, as libtorch has it.

func (t *tape) Unary(k op.UnaryOp, x op.Value) (op.Value, error) {
	v, err := t.builder.Unary(k, x)
	e := effect{}
	switch k {
	case op.Exp, op.Sqrt, op.Tanh, op.Sigmoid:
		e.result = true
	case op.Log, op.Sin, op.Cos, op.Erf:
		e.operands = []op.Value{x}
	}
	return t.add(v, err, e, x)
}

func (t *tape) Binary(k op.BinaryOp, x, y op.Value) (op.Value, error) {
	v, err := t.builder.Binary(k, x, y)
	e := effect{}
	if k == op.Mul || k == op.Div {
		e.operands = t.crossed(x, y)
	}
	return t.add(v, err, e, x, y)
}

// crossed are the operands of a product that gradients read: each for the other's.
func (t *tape) crossed(x, y op.Value) []op.Value {
	var read []op.Value
	if t.of(x).gradient {
		read = append(read, y)
	}
	if t.of(y).gradient {
		read = append(read, x)
	}
	return read
}

func (t *tape) MatMul(x, y op.Value) (op.Value, error) {
	x, y = t.product(x), t.product(y)
	v, err := t.builder.MatMul(x, y)
	return t.add(v, err, effect{operands: t.crossed(x, y), half: t.Half}, x, y)
}

// Linear implements op.Linear.
func (t *tape) Linear(x, weight, bias op.Value) (op.Value, error) {
	x, weight, bias = t.product(x), t.product(weight), t.product(bias)
	v, err := t.meter.Linear(x, weight, bias)
	return t.add(v, err, effect{operands: t.crossed(x, weight), half: t.Half}, x, weight, bias)
}

// What Winograd's convolution, of 3×3 in four bytes, takes at most while it runs: all transformed weights, and of each channel of the image.
const (
	transformedWeights = 16 << 20
	transformedChannel = 16 << 10
)

func (t *tape) Conv2D(x, weight, bias op.Value, stride, padding int) (op.Value, error) {
	x, weight, bias = t.product(x), t.product(weight), t.product(bias)
	v, err := t.builder.Conv2D(x, weight, bias, stride, padding)
	if err != nil {
		return nil, err
	}
	if kernel := weight.(shape).dims; !t.Half && kernel[2] == 3 && kernel[3] == 3 && stride == 1 && padding == 1 {
		work := min(t.bytesOf(weight)*16/9, transformedWeights) + min(4*t.bytesOf(x), transformedChannel*int64(kernel[1]))
		return t.add(v, nil, effect{operands: t.crossed(x, weight), work: work}, x, weight, bias)
	}
	work := t.bytesOf(x) + t.bytesOf(v) + t.bytesOf(weight)
	return t.add(v, nil, effect{operands: []op.Value{x, weight}, half: t.Half, work: work}, x, weight, bias)
}

func (t *tape) GroupNorm(x op.Value, groups int, weight, bias op.Value, eps float64) (op.Value, error) {
	v, err := t.builder.GroupNorm(x, groups, weight, bias, eps)
	return t.add(v, err, effect{operands: []op.Value{x}, half: t.of(x).half}, x, weight, bias)
}

func (t *tape) LayerNorm(x, weight, bias op.Value, eps float64) (op.Value, error) {
	v, err := t.builder.LayerNorm(x, weight, bias, eps)
	return t.add(v, err, effect{operands: []op.Value{x}, half: t.of(x).half}, x, weight, bias)
}

func (t *tape) Softmax(x op.Value, dim int) (op.Value, error) {
	v, err := t.builder.Softmax(x, dim)
	return t.add(v, err, effect{result: true}, x)
}

// SiLU implements op.SiLU.
func (t *tape) SiLU(x op.Value) (op.Value, error) {
	v, err := t.builder.Unary(op.Sigmoid, x)
	return t.add(v, err, effect{operands: []op.Value{x}}, x)
}

// GELU implements op.GELU.
func (t *tape) GELU(x op.Value) (op.Value, error) {
	v, err := t.builder.Unary(op.Erf, x)
	return t.add(v, err, effect{operands: []op.Value{x}}, x)
}

// Attention implements op.Attention. In two bytes the scores are kept for the gradient, in four the sums of their rows.
func (t *tape) Attention(query, key, value, mask op.Value, heads, headDim int) (op.Value, error) {
	query, key, value = t.product(query), t.product(key), t.product(value)
	v, err := t.meter.Attention(query, key, value, mask, heads, headDim)
	if err != nil {
		return nil, err
	}
	q, k := query.(shape).dims, key.(shape).dims
	rows := 4 * int64(q[0]) * int64(heads) * int64(q[1])
	e := effect{operands: []op.Value{query, key, value}, result: true, extra: rows, half: t.Half}
	if scores := rows / 2 * int64(k[1]); t.Half && t.recording {
		e.extra, e.work, e.result = scores+t.bytesOf(query), 2*scores, false
	}
	return t.add(v, nil, e, query, key, value)
}

func (t *tape) ReduceMean(x op.Value, axes ...int) (op.Value, error) {
	v, err := t.builder.ReduceMean(x, axes...)
	return t.add(v, err, effect{full: true}, x)
}

func (t *tape) ReduceMax(x op.Value, axes ...int) (op.Value, error) {
	v, err := t.builder.ReduceMax(x, axes...)
	return t.add(v, err, effect{operands: []op.Value{x}, result: true}, x)
}

func (t *tape) ArgMax(x op.Value, dim int) (op.Value, error) {
	v, err := t.builder.ArgMax(x, dim)
	return t.add(v, err, effect{}, x)
}

func (t *tape) Where(cond, x, y op.Value) (op.Value, error) {
	v, err := t.builder.Where(cond, x, y)
	return t.add(v, err, effect{operands: []op.Value{cond}}, cond, x, y)
}

// Reshape is a copy of what is turned, except to an image.
func (t *tape) Reshape(x, like op.Value, dims ...int) (op.Value, error) {
	v, err := t.builder.Reshape(x, like, dims...)
	return t.add(v, err, effect{view: !t.of(x).turned || len(dims) == 4}, x)
}

func (t *tape) Transpose(x op.Value, perm ...int) (op.Value, error) {
	v, err := t.builder.Transpose(x, perm...)
	turned := !t.of(x).turned
	if v, err = t.add(v, err, effect{view: true}, x); err == nil {
		now := t.of(v)
		now.turned = turned
		t.values[v.(shape).id] = now
	}
	return v, err
}

func (t *tape) Concat(dim int, xs ...op.Value) (op.Value, error) {
	v, err := t.builder.Concat(dim, xs...)
	return t.add(v, err, effect{}, xs...)
}

func (t *tape) Slice(x op.Value, dim, start, end int) (op.Value, error) {
	v, err := t.builder.Slice(x, dim, start, end)
	return t.add(v, err, effect{view: true}, x)
}

func (t *tape) Gather(x, indices op.Value) (op.Value, error) {
	v, err := t.builder.Gather(x, indices)
	return t.add(v, err, effect{operands: []op.Value{indices}}, x, indices)
}

func (t *tape) Expand(x, like op.Value) (op.Value, error) {
	v, err := t.builder.Expand(x, like)
	return t.add(v, err, effect{view: true}, x)
}

func (t *tape) Pad(x op.Value, left, right, top, bottom int) (op.Value, error) {
	v, err := t.builder.Pad(x, left, right, top, bottom)
	return t.add(v, err, effect{}, x)
}

func (t *tape) Upsample2x(x op.Value) (op.Value, error) {
	v, err := t.builder.Upsample2x(x)
	return t.add(v, err, effect{}, x)
}

func (t *tape) Cast(x op.Value, dt op.DType) (op.Value, error) {
	v, err := t.builder.Cast(x, dt)
	return t.add(v, err, effect{full: true}, x)
}

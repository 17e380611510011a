package trace

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

// What follows is every primitive, recorded by the builder and noted by the meter.

func (m *meter) Unary(k op.UnaryOp, x op.Value) (op.Value, error) {
	v, err := m.builder.Unary(k, x)
	return m.note(v, err, step{inPlace: true}, x)
}

func (m *meter) Binary(k op.BinaryOp, x, y op.Value) (op.Value, error) {
	v, err := m.builder.Binary(k, x, y)
	return m.note(v, err, step{inPlace: true}, x, y)
}

func (m *meter) MatMul(x, y op.Value) (op.Value, error) {
	v, err := m.builder.MatMul(x, y)
	return m.note(v, err, step{}, x, y)
}

func (m *meter) Conv2D(x, weight, bias op.Value, stride, padding int) (op.Value, error) {
	v, err := m.builder.Conv2D(x, weight, bias, stride, padding)
	return m.note(v, err, step{}, x)
}

func (m *meter) GroupNorm(x op.Value, groups int, weight, bias op.Value, eps float64) (op.Value, error) {
	v, err := m.builder.GroupNorm(x, groups, weight, bias, eps)
	return m.note(v, err, step{}, x)
}

func (m *meter) LayerNorm(x, weight, bias op.Value, eps float64) (op.Value, error) {
	v, err := m.builder.LayerNorm(x, weight, bias, eps)
	return m.note(v, err, step{}, x)
}

func (m *meter) Softmax(x op.Value, dim int) (op.Value, error) {
	v, err := m.builder.Softmax(x, dim)
	return m.note(v, err, step{}, x)
}

func (m *meter) ReduceMean(x op.Value, axes ...int) (op.Value, error) {
	v, err := m.builder.ReduceMean(x, axes...)
	return m.note(v, err, step{}, x)
}

func (m *meter) ReduceMax(x op.Value, axes ...int) (op.Value, error) {
	v, err := m.builder.ReduceMax(x, axes...)
	return m.note(v, err, step{}, x)
}

func (m *meter) ArgMax(x op.Value, dim int) (op.Value, error) {
	v, err := m.builder.ArgMax(x, dim)
	return m.note(v, err, step{}, x)
}

func (m *meter) Where(cond, x, y op.Value) (op.Value, error) {
	v, err := m.builder.Where(cond, x, y)
	return m.note(v, err, step{inPlace: true}, cond, x, y)
}

func (m *meter) Reshape(x, like op.Value, dims ...int) (op.Value, error) {
	v, err := m.builder.Reshape(x, like, dims...)
	return m.view(v, err, x)
}

func (m *meter) Transpose(x op.Value, perm ...int) (op.Value, error) {
	v, err := m.builder.Transpose(x, perm...)
	return m.note(v, err, step{}, x)
}

func (m *meter) Concat(dim int, xs ...op.Value) (op.Value, error) {
	v, err := m.builder.Concat(dim, xs...)
	return m.note(v, err, step{}, xs...)
}

func (m *meter) Slice(x op.Value, dim, start, end int) (op.Value, error) {
	v, err := m.builder.Slice(x, dim, start, end)
	return m.note(v, err, step{}, x)
}

func (m *meter) Gather(x, indices op.Value) (op.Value, error) {
	v, err := m.builder.Gather(x, indices)
	return m.note(v, err, step{}, x, indices)
}

func (m *meter) Expand(x, like op.Value) (op.Value, error) {
	v, err := m.builder.Expand(x, like)
	return m.note(v, err, step{}, x)
}

func (m *meter) Pad(x op.Value, left, right, top, bottom int) (op.Value, error) {
	v, err := m.builder.Pad(x, left, right, top, bottom)
	return m.note(v, err, step{}, x)
}

func (m *meter) Upsample2x(x op.Value) (op.Value, error) {
	v, err := m.builder.Upsample2x(x)
	return m.note(v, err, step{}, x)
}

func (m *meter) Cast(x op.Value, dt op.DType) (op.Value, error) {
	v, err := m.builder.Cast(x, dt)
	return m.note(v, err, step{}, x)
}

// Linear implements op.Linear.
func (m *meter) Linear(x, weight, bias op.Value) (op.Value, error) {
	s, err := floats(x, weight)
	if err != nil {
		return nil, err
	}
	in, w := s[0].dims, s[1].dims
	if len(in) < 1 || len(w) != 2 || !same(in[len(in)-1], w[1]) {
		return nil, fmt.Errorf("input of dims %v, weight of %v", public(in), w)
	}
	v, err := m.op("Linear", op.Float32, append(slices.Clone(in[:len(in)-1]), w[0])...)
	return m.note(v, err, step{}, x)
}

// Attention implements op.Attention. The kernel has the heads apart in copies of its operands, and the scores only where they are masked.
func (m *meter) Attention(query, key, value, mask op.Value, heads, headDim int) (op.Value, error) {
	s, err := floats(query, key, value)
	if err != nil {
		return nil, err
	}
	q, k := s[0].dims, s[1].dims
	if len(q) != 3 || len(k) != 3 {
		return nil, fmt.Errorf("query of dims %v, key of %v", public(q), public(k))
	}
	extra := size(s[0]) + size(s[1]) + size(s[2])
	if mask != nil {
		extra += 4 * int64(q[0]) * int64(heads) * int64(q[1]) * int64(k[1])
	}
	v, err := m.op("Attention", op.Float32, slices.Clone(q)...)
	return m.note(v, err, step{extra: extra}, query, key, value, mask)
}

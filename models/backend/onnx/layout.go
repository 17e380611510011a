package onnx

import (
	"errors"
	"fmt"
	"slices"

	"likeness/models/op"
)

// shapeOf is x's dims as a run has them, all or those of [start, end); shapes of one value are shared.
func (b *builder) shapeOf(x *value, span ...int) *value {
	start, end := 0, len(x.dims)
	if len(span) == 2 {
		start, end = span[0], span[1]
	}
	if known(x.dims[start:end]...) {
		return b.ints(x.dims[start:end]...)
	}
	key := fmt.Sprintf("shape %d:%d %s", start, end, x.name)
	if v, ok := b.derived[key]; ok {
		return v
	}
	v := b.node("Shape", op.Int64, []int{end - start}, attrs{"start": start, "end": end}, x)
	b.derived[key] = v
	return v
}

// Reshape implements [op.Builder]. ONNX's own 0 copies from x; dims of another tensor are put together by a few small nodes.
func (b *builder) Reshape(x, like op.Value, dims ...int) (op.Value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	source := v
	if like != nil {
		if source, err = operand(like); err != nil {
			return nil, err
		}
	}
	out, err := reshapeDims(v.dims, source.dims, dims)
	if err != nil {
		return nil, err
	}
	return b.node("Reshape", v.dt, out, nil, v, b.target(source, source == v, dims)), nil
}

// target is the shape operand of a Reshape.
func (b *builder) target(source *value, own bool, dims []int) *value {
	literal := slices.Clone(dims)
	for i, d := range dims {
		if d == 0 && source.dims[i] != unknown {
			literal[i] = source.dims[i]
		}
	}
	if own || !slices.Contains(literal, 0) {
		return b.ints(literal...)
	}
	if len(dims) == len(source.dims) && !slices.ContainsFunc(dims, func(d int) bool { return d != 0 }) {
		return b.shapeOf(source)
	}
	var parts []*value
	for start := 0; start < len(literal); {
		end := start + 1
		for end < len(literal) && (literal[end] == 0) == (literal[start] == 0) {
			end++
		}
		if literal[start] == 0 {
			parts = append(parts, b.shapeOf(source, start, end))
		} else {
			parts = append(parts, b.ints(literal[start:end]...))
		}
		start = end
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return b.node("Concat", op.Int64, []int{len(dims)}, attrs{"axis": 0}, parts...)
}

// Transpose implements [op.Builder].
func (b *builder) Transpose(x op.Value, perm ...int) (op.Value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	if len(perm) != len(v.dims) {
		return nil, fmt.Errorf("permutation %v of dims %v", perm, v.dims)
	}
	dims, at := make([]int, len(perm)), make([]int, len(perm))
	for i, axis := range perm {
		if at[i], err = axisOf(axis, len(perm)); err != nil {
			return nil, err
		}
		if slices.Contains(at[:i], at[i]) {
			return nil, fmt.Errorf("permutation %v names an axis twice", perm)
		}
		dims[i] = v.dims[at[i]]
	}
	return b.node("Transpose", v.dt, dims, attrs{"perm": at}, v), nil
}

// Concat implements [op.Builder].
func (b *builder) Concat(axis int, xs ...op.Value) (op.Value, error) {
	if len(xs) == 0 {
		return nil, errors.New("nothing to join")
	}
	first, err := operand(xs[0])
	if err != nil {
		return nil, err
	}
	v, err := operands(first.dt, xs...)
	if err != nil {
		return nil, err
	}
	if axis, err = axisOf(axis, len(first.dims)); err != nil {
		return nil, err
	}
	dims := slices.Clone(first.dims)
	for _, x := range v[1:] {
		if len(x.dims) != len(dims) {
			return nil, fmt.Errorf("dims %v and %v", first.dims, x.dims)
		}
		for i, d := range x.dims {
			switch {
			case i == axis && (d == unknown || dims[i] == unknown):
				dims[i] = unknown
			case i == axis:
				dims[i] += d
			case !agree(dims[i], d):
				return nil, fmt.Errorf("dims %v and %v differ outside axis %d", first.dims, x.dims, axis)
			case dims[i] == unknown:
				dims[i] = d
			}
		}
	}
	return b.node("Concat", first.dt, dims, attrs{"axis": axis}, v...), nil
}

// Slice implements [op.Builder].
func (b *builder) Slice(x op.Value, axis, start, end int) (op.Value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	if axis, err = axisOf(axis, len(v.dims)); err != nil {
		return nil, err
	}
	dims := slices.Clone(v.dims)
	if start < 0 || end <= start || (dims[axis] != unknown && end > dims[axis]) {
		return nil, fmt.Errorf("[%d, %d) of axis %d of dims %v", start, end, axis, dims)
	}
	dims[axis] = end - start
	return b.node("Slice", v.dt, dims, nil, v, b.ints(start), b.ints(end), b.ints(axis)), nil
}

// Gather implements [op.Builder].
func (b *builder) Gather(x, indices op.Value) (op.Value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	at, err := operands(op.Int64, indices)
	if err != nil {
		return nil, err
	}
	if len(v.dims) == 0 {
		return nil, errors.New("a scalar has no rows")
	}
	dims := slices.Concat(at[0].dims, v.dims[1:])
	rows := b.node("Gather", v.dt, dims, attrs{"axis": 0}, asStored(v), at[0])
	if v.raw != nil {
		return b.cast(rows, protoFloat), nil
	}
	return rows, nil
}

// Expand implements [op.Builder].
func (b *builder) Expand(x, like op.Value) (op.Value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	l, err := operand(like)
	if err != nil {
		return nil, err
	}
	if dims, err := broadcast(v.dims, l.dims); err != nil || len(dims) != len(l.dims) {
		return nil, fmt.Errorf("dims %v do not expand to %v", v.dims, l.dims)
	}
	return b.node("Expand", v.dt, l.dims, nil, v, b.shapeOf(l)), nil
}

// Pad implements [op.Builder].
func (b *builder) Pad(x op.Value, left, right, top, bottom int) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	dims, rank := slices.Clone(v[0].dims), len(v[0].dims)
	if rank < 2 || min(left, right, top, bottom) < 0 {
		return nil, fmt.Errorf("dims %v by %d, %d, %d, %d", dims, left, right, top, bottom)
	}
	for i, n := range []int{top + bottom, left + right} {
		if at := rank - 2 + i; dims[at] != unknown {
			dims[at] += n
		}
	}
	pads := make([]int, 2*rank) // the starts of all axes, then their ends
	pads[rank-2], pads[rank-1], pads[2*rank-2], pads[2*rank-1] = top, left, bottom, right
	return b.node("Pad", op.Float32, dims, nil, v[0], b.ints(pads...)), nil
}

// Upsample2x implements [op.Builder].
func (b *builder) Upsample2x(x op.Value) (op.Value, error) {
	v, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	dims, rank := slices.Clone(v[0].dims), len(v[0].dims)
	if rank < 2 {
		return nil, fmt.Errorf("dims %v", dims)
	}
	scales := make([]float32, rank)
	for i := range scales {
		if scales[i] = 1; i >= rank-2 {
			scales[i] = 2
			if dims[i] != unknown {
				dims[i] *= 2
			}
		}
	}
	factor := b.constant(protoFloat, op.Float32, floatData(scales), []int{rank})
	a := attrs{"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
	return b.node("Resize", op.Float32, dims, a, v[0], nil, factor), nil
}

// Cast implements [op.Builder].
func (b *builder) Cast(x op.Value, dt op.DType) (op.Value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	return b.node("Cast", dt, v.dims, attrs{"to": protoType[dt]}, v), nil
}

package ref

import (
	"errors"
	"fmt"
	"slices"

	"likeness/models/op"
)

// strides are the steps in memory between neighbours along each axis.
func strides(dims []int) []int {
	s, step := make([]int, len(dims)), 1
	for i := len(dims) - 1; i >= 0; i-- {
		s[i] = step
		step *= dims[i]
	}
	return s
}

// places lists where, from start on, the elements of a tensor of dims lie in memory with these strides.
func places(dims, strides []int, start int) []int {
	at := []int{start}
	for i, d := range dims {
		next := make([]int, 0, len(at)*d)
		for _, p := range at {
			for j := range d {
				next = append(next, p+j*strides[i])
			}
		}
		at = next
	}
	return at
}

// spread lists which element of a tensor of dims from stands at each place of its broadcast to dims to.
func spread(from, to []int) []int {
	steps, lead := make([]int, len(to)), len(to)-len(from)
	for i, s := range strides(from) {
		if from[i] != 1 {
			steps[lead+i] = s
		}
	}
	return places(to, steps, 0)
}

// broadcast combines dims as NumPy does.
func broadcast(x, y []int) ([]int, error) {
	if len(x) < len(y) {
		x, y = y, x
	}
	out := slices.Clone(x)
	for i, d := range y {
		o := &out[len(x)-len(y)+i]
		switch {
		case *o == 1:
			*o = d
		case d != 1 && d != *o:
			return nil, fmt.Errorf("dims %v and %v do not broadcast", x, y)
		}
	}
	return out, nil
}

// pick makes a tensor of dims of t's elements at the places; zero where a place is negative.
func (t *tensor) pick(dims, places []int) *tensor {
	out := &tensor{dims: dims, dt: t.dt}
	if t.dt == op.Float32 {
		out.f = pick(t.f, places)
	} else {
		out.i = pick(t.i, places)
	}
	return out
}

func pick[T float32 | int64](from []T, places []int) []T {
	out := make([]T, len(places))
	for i, p := range places {
		if p >= 0 {
			out[i] = from[p]
		}
	}
	return out
}

func (b *builder) Reshape(x, like op.Value, dims ...int) (op.Value, error) {
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	source := t
	if like != nil {
		if source, err = operand(like); err != nil {
			return nil, err
		}
	}
	out, inferred := slices.Clone(dims), -1
	for i, d := range dims {
		switch {
		case d == 0 && i >= len(source.dims):
			return nil, fmt.Errorf("dims %v copy a dimension that %v has not", dims, source.dims)
		case d == 0:
			out[i] = source.dims[i]
		case d < -1 || d == -1 && inferred >= 0:
			return nil, fmt.Errorf("dims %v", dims)
		case d == -1:
			inferred, out[i] = i, 1
		}
	}
	size := op.Size(t.dims)
	if rest := op.Size(out); inferred >= 0 && rest > 0 {
		out[inferred] = size / rest
	}
	if op.Size(out) != size {
		return nil, fmt.Errorf("dims %v to %v", t.dims, dims)
	}
	return &tensor{out, t.dt, t.f, t.i}, nil
}

func (b *builder) Transpose(x op.Value, perm ...int) (op.Value, error) {
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	n := len(t.dims)
	dims, steps, seen := make([]int, n), make([]int, n), make([]bool, n)
	if len(perm) != n {
		return nil, fmt.Errorf("order %v of dims %v", perm, t.dims)
	}
	for i, p := range perm {
		if p, err = t.axis(p); err != nil || seen[p] {
			return nil, fmt.Errorf("order %v of dims %v", perm, t.dims)
		}
		seen[p], dims[i], steps[i] = true, t.dims[p], strides(t.dims)[p]
	}
	return t.pick(dims, places(dims, steps, 0)), nil
}

func (b *builder) Concat(axis int, xs ...op.Value) (op.Value, error) {
	if len(xs) == 0 {
		return nil, errors.New("of nothing")
	}
	first, err := operand(xs[0])
	if err != nil {
		return nil, err
	}
	ts, err := operands(first.dt, xs...)
	if err != nil {
		return nil, err
	}
	if axis, err = first.axis(axis); err != nil {
		return nil, err
	}
	out := &tensor{dims: slices.Clone(first.dims), dt: first.dt}
	out.dims[axis] = 0
	for _, t := range ts {
		if len(t.dims) != len(first.dims) || !slices.Equal(t.dims[:axis], first.dims[:axis]) || !slices.Equal(t.dims[axis+1:], first.dims[axis+1:]) {
			return nil, fmt.Errorf("along axis %d of dims %v and %v", axis, first.dims, t.dims)
		}
		out.dims[axis] += t.dims[axis]
	}
	for row := range op.Size(first.dims[:axis]) {
		for _, t := range ts {
			n := op.Size(t.dims[axis:])
			if t.dt == op.Float32 {
				out.f = append(out.f, t.f[row*n:(row+1)*n]...)
			} else {
				out.i = append(out.i, t.i[row*n:(row+1)*n]...)
			}
		}
	}
	return out, nil
}

func (b *builder) Slice(x op.Value, axis, start, end int) (op.Value, error) {
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	if axis, err = t.axis(axis); err != nil {
		return nil, err
	}
	if start < 0 || end < start || end > t.dims[axis] {
		return nil, fmt.Errorf("[%d, %d) of axis %d of dims %v", start, end, axis, t.dims)
	}
	dims, steps := slices.Clone(t.dims), strides(t.dims)
	dims[axis] = end - start
	return t.pick(dims, places(dims, steps, start*steps[axis])), nil
}

func (b *builder) Gather(x, indices op.Value) (op.Value, error) {
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	at, err := operands(op.Int64, indices)
	if err != nil {
		return nil, err
	}
	if len(t.dims) == 0 {
		return nil, errors.New("a scalar has no rows")
	}
	row := op.Size(t.dims[1:])
	var from []int
	for _, i := range at[0].i {
		if i < 0 || i >= int64(t.dims[0]) {
			return nil, fmt.Errorf("row %d of dims %v", i, t.dims)
		}
		for j := range row {
			from = append(from, int(i)*row+j)
		}
	}
	return t.pick(slices.Concat(at[0].dims, t.dims[1:]), from), nil
}

func (b *builder) Expand(x, like op.Value) (op.Value, error) {
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	to, err := operand(like)
	if err != nil {
		return nil, err
	}
	if dims, err := broadcast(t.dims, to.dims); err != nil || !slices.Equal(dims, to.dims) {
		return nil, fmt.Errorf("dims %v to %v", t.dims, to.dims)
	}
	return t.pick(slices.Clone(to.dims), spread(t.dims, to.dims)), nil
}

func (b *builder) Pad(x op.Value, left, right, top, bottom int) (op.Value, error) {
	ts, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	t, n := ts[0], len(ts[0].dims)
	if n < 2 || min(left, right, top, bottom) < 0 {
		return nil, fmt.Errorf("of dims %v by %d, %d, %d, %d", t.dims, left, right, top, bottom)
	}
	h, w := t.dims[n-2], t.dims[n-1]
	return t.image(h+top+bottom, w+left+right, func(y, x int) (int, int) { return y - top, x - left }), nil
}

func (b *builder) Upsample2x(x op.Value) (op.Value, error) {
	ts, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	t, n := ts[0], len(ts[0].dims)
	if n != 4 {
		return nil, fmt.Errorf("of dims %v", t.dims)
	}
	return t.image(2*t.dims[n-2], 2*t.dims[n-1], func(y, x int) (int, int) { return y / 2, x / 2 }), nil
}

// image makes images of height by width of t's; from says which place of t's image each one shows, zero outside.
func (t *tensor) image(height, width int, from func(y, x int) (int, int)) *tensor {
	n := len(t.dims)
	h, w := t.dims[n-2], t.dims[n-1]
	dims := append(slices.Clone(t.dims[:n-2]), height, width)
	at := make([]int, 0, op.Size(dims))
	for i := range op.Size(t.dims[:n-2]) {
		for y := range height {
			for x := range width {
				p := -1
				if v, u := from(y, x); v >= 0 && v < h && u >= 0 && u < w {
					p = (i*h+v)*w + u
				}
				at = append(at, p)
			}
		}
	}
	return t.pick(dims, at)
}

func (b *builder) Cast(x op.Value, dt op.DType) (op.Value, error) {
	t, err := operand(x)
	if err != nil || t.dt == dt {
		return t, err
	}
	if dt == op.Float32 {
		out := floats(t.dims)
		for i, v := range t.i {
			out.f[i] = float32(v)
		}
		return out, nil
	}
	out := ints(dt, t.dims)
	for i := range out.i {
		switch {
		case dt == op.Bool:
			out.i[i] = bit(t.f != nil && t.f[i] != 0 || t.i != nil && t.i[i] != 0)
		case t.dt == op.Float32:
			out.i[i] = int64(t.f[i])
		default:
			out.i[i] = t.i[i]
		}
	}
	return out, nil
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

package trace

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

func (b *builder) Reshape(x, like op.Value, dims ...int) (op.Value, error) {
	s := x.(shape)
	from := s.dims
	if like != nil {
		from = like.(shape).dims
	}
	out, inferred := slices.Clone(dims), -1
	for i, d := range dims {
		switch {
		case d == 0 && i >= len(from):
			return nil, fmt.Errorf("dims %v copy a dimension that %v has not", dims, public(from))
		case d == 0:
			out[i] = from[i]
		case d == -1 && inferred >= 0 || d < -1:
			return nil, fmt.Errorf("dims %v", dims)
		case d == -1:
			inferred = i
		}
	}
	if err := b.infer(s.dims, out, inferred); err != nil {
		return nil, err
	}
	return b.op("Reshape", s.dt, out...)
}

// infer fills the inferred dimension of to, or checks that the sizes are equal, as far as symbols allow.
func (b *builder) infer(from, to []int, inferred int) error {
	left, right := slices.Clone(from), slices.Clone(to)
	if inferred >= 0 {
		right = slices.Delete(right, inferred, inferred+1)
	}
	for i := 0; i < len(left); i++ { // symbols on both sides cancel
		if j := slices.Index(right, left[i]); left[i] < 0 && j >= 0 {
			left, right = slices.Delete(left, i, i+1), slices.Delete(right, j, j+1)
			i--
		}
	}
	known := !slices.ContainsFunc(append(slices.Clone(left), right...), func(d int) bool { return d < 0 })
	switch {
	case !known && inferred >= 0:
		slices.Sort(left)
		slices.Sort(right)
		to[inferred] = b.symbol("reshape %v %v", left, right)
	case known && inferred >= 0:
		if op.Size(right) == 0 || op.Size(left)%op.Size(right) != 0 {
			return fmt.Errorf("dims %v to %v", public(from), public(to))
		}
		to[inferred] = op.Size(left) / op.Size(right)
	case known && op.Size(left) != op.Size(right):
		return fmt.Errorf("dims %v to %v", public(from), public(to))
	}
	return nil
}

func (b *builder) Transpose(x op.Value, perm ...int) (op.Value, error) {
	s := x.(shape)
	out, seen := make([]int, len(perm)), make([]bool, len(perm))
	if len(perm) != len(s.dims) {
		return nil, fmt.Errorf("order %v of dims %v", perm, public(s.dims))
	}
	for i, p := range perm {
		if p < 0 || p >= len(perm) || seen[p] {
			return nil, fmt.Errorf("order %v of dims %v", perm, public(s.dims))
		}
		seen[p], out[i] = true, s.dims[p]
	}
	return b.op("Transpose", s.dt, out...)
}

func (b *builder) Concat(dim int, xs ...op.Value) (op.Value, error) {
	if len(xs) == 0 {
		return nil, fmt.Errorf("of nothing")
	}
	all, err := shapes(xs...)
	if err != nil {
		return nil, err
	}
	first := all[0]
	at, err := axis(first, dim)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(first.dims)
	for _, s := range all[1:] {
		if s.dt != first.dt || len(s.dims) != len(out) {
			return nil, fmt.Errorf("of dims %v and %v", public(out), public(s.dims))
		}
		for i, d := range s.dims {
			switch {
			case i == at && (d < 0 || out[i] < 0):
				out[i] = b.symbol("concat %d %d", out[i], d)
			case i == at:
				out[i] += d
			case !same(out[i], d):
				return nil, fmt.Errorf("of dims %v and %v", public(out), public(s.dims))
			default:
				out[i] = max(out[i], d)
			}
		}
	}
	return b.op("Concat", first.dt, out...)
}

func (b *builder) Slice(x op.Value, dim, start, end int) (op.Value, error) {
	s := x.(shape)
	i, err := axis(s, dim)
	if err != nil {
		return nil, err
	}
	if start < 0 || end < start || s.dims[i] >= 0 && end > s.dims[i] {
		return nil, fmt.Errorf("[%d, %d) of axis %d of dims %v", start, end, dim, public(s.dims))
	}
	out := slices.Clone(s.dims)
	out[i] = end - start
	return b.op("Slice", s.dt, out...)
}

func (b *builder) Gather(x, indices op.Value) (op.Value, error) {
	v, err := shapes(x, indices)
	if err != nil {
		return nil, err
	}
	s, at := v[0], v[1]
	if at.dt != op.Int64 || len(s.dims) == 0 {
		return nil, fmt.Errorf("of dims %v by %v", public(s.dims), at.dt)
	}
	return b.op("Gather", s.dt, append(slices.Clone(at.dims), s.dims[1:]...)...)
}

func (b *builder) Expand(x, like op.Value) (op.Value, error) {
	v, err := shapes(x, like)
	if err != nil {
		return nil, err
	}
	s, to := v[0], v[1]
	dims, err := b.broadcast(s.dims, to.dims)
	if err != nil || len(dims) != len(to.dims) {
		return nil, fmt.Errorf("dims %v to %v", public(s.dims), public(to.dims))
	}
	return b.op("Expand", s.dt, to.dims...)
}

func (b *builder) Pad(x op.Value, left, right, top, bottom int) (op.Value, error) {
	s := x.(shape)
	n := len(s.dims)
	if n < 2 || min(left, right, top, bottom) < 0 {
		return nil, fmt.Errorf("of dims %v by %d, %d, %d, %d", public(s.dims), left, right, top, bottom)
	}
	out := slices.Clone(s.dims)
	for i, by := range map[int]int{n - 2: top + bottom, n - 1: left + right} {
		switch {
		case by > 0 && out[i] < 0:
			out[i] = b.symbol("pad %d %d", out[i], by)
		default:
			out[i] += by
		}
	}
	return b.op("Pad", s.dt, out...)
}

func (b *builder) Upsample2x(x op.Value) (op.Value, error) {
	s := x.(shape)
	if len(s.dims) != 4 {
		return nil, fmt.Errorf("of dims %v", public(s.dims))
	}
	out := slices.Clone(s.dims)
	for i := 2; i < 4; i++ {
		if out[i] < 0 {
			out[i] = b.symbol("upsample %d", out[i])
		} else {
			out[i] *= 2
		}
	}
	return b.op("Upsample2x", s.dt, out...)
}

func (b *builder) Cast(x op.Value, dt op.DType) (op.Value, error) {
	return b.op("Cast", dt, x.(shape).dims...)
}

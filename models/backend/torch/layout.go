//go:build torch

package torch

import (
	"fmt"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

func (b *builder) Reshape(x, like op.Value, dims ...int) (op.Value, error) {
	t := x.(*tensor)
	from := t.dims
	if like != nil {
		from = like.(*tensor).dims
	}
	shape := make([]int64, len(dims)+1) // libtch reads the address of the first, also of none
	for i, d := range dims {
		if d == 0 {
			if i >= len(from) {
				return nil, fmt.Errorf("dims %v copy a dimension that %v has not", dims, from)
			}
			d = from[i]
		}
		shape[i] = int64(d)
	}
	return b.result("Reshape", func(out *lib.Ctensor) { lib.AtgReshape(out, t.c, shape, len(dims)) })
}

func (b *builder) Transpose(x op.Value, perm ...int) (op.Value, error) {
	t := x.(*tensor)
	p := make([]int64, len(perm))
	for i, a := range perm {
		p[i] = int64(a)
	}
	return b.result("Transpose", func(out *lib.Ctensor) { lib.AtgPermute(out, t.c, p, len(p)) })
}

func (b *builder) Concat(dim int, xs ...op.Value) (op.Value, error) {
	parts := make([]lib.Ctensor, len(xs))
	kind := kindBFloat16
	for _, x := range xs {
		if k := x.(*tensor).kind; k != kindBFloat16 {
			kind = k
		}
	}
	for i, x := range xs {
		t, err := b.to(x.(*tensor), kind)
		if err != nil {
			return nil, err
		}
		parts[i] = t.c
	}
	i, err := axis(xs[0].(*tensor), dim)
	if err != nil {
		return nil, err
	}
	return b.result("Concat", func(out *lib.Ctensor) { lib.AtgCat(out, parts, len(parts), i) })
}

func (b *builder) Slice(x op.Value, dim, start, end int) (op.Value, error) {
	t := x.(*tensor)
	i, err := axis(t, dim)
	if err != nil {
		return nil, err
	}
	if start < 0 || end < start || end > t.dims[i] {
		return nil, fmt.Errorf("slice [%d, %d) of axis %d of dims %v", start, end, dim, t.dims)
	}
	return b.result("Slice", func(out *lib.Ctensor) { lib.AtgSlice(out, t.c, i, int64(start), 0, int64(end), 0, 1) })
}

func (b *builder) Gather(x, indices op.Value) (op.Value, error) {
	t, at := x.(*tensor), indices.(*tensor)
	if at.kind != kindInt64 || len(t.dims) == 0 {
		return nil, fmt.Errorf("rows of dims %v by indices that must be int64", t.dims)
	}
	if len(t.dims) == 2 {
		return b.result("Gather", func(out *lib.Ctensor) { lib.AtgEmbedding(out, t.c, at.c, -1, 0, 0) })
	}
	flat, err := b.call("Gather", func(out *lib.Ctensor) { lib.AtgReshape(out, at.c, []int64{-1}, 1) })
	if err != nil {
		return nil, err
	}
	rows, err := b.call("Gather", func(out *lib.Ctensor) { lib.AtgIndexSelect(out, t.c, 0, flat.c) })
	if err != nil {
		return nil, err
	}
	return b.Reshape(rows, nil, append(append([]int(nil), at.dims...), t.dims[1:]...)...)
}

func (b *builder) Expand(x, like op.Value) (op.Value, error) {
	t, to := x.(*tensor), like.(*tensor)
	shape := make([]int64, len(to.dims)+1)
	for i, d := range to.dims {
		shape[i] = int64(d)
	}
	return b.result("Expand", func(out *lib.Ctensor) { lib.AtgExpand(out, t.c, shape, len(to.dims), 0) })
}

func (b *builder) Pad(x op.Value, left, right, top, bottom int) (op.Value, error) {
	t := x.(*tensor)
	pad := []int64{int64(left), int64(right), int64(top), int64(bottom)}
	return b.result("Pad", func(out *lib.Ctensor) { lib.AtgConstantPadNd(out, t.c, pad, 4) })
}

func (b *builder) Upsample2x(x op.Value) (op.Value, error) {
	t := x.(*tensor)
	if len(t.dims) != 4 {
		return nil, fmt.Errorf("image of dims %v", t.dims)
	}
	size := []int64{int64(2 * t.dims[2]), int64(2 * t.dims[3])}
	return b.result("Upsample2x", func(out *lib.Ctensor) { lib.AtgUpsampleNearest2d(out, t.c, size, 2, 0, 1, 0, 1) })
}

func (b *builder) Cast(x op.Value, dt op.DType) (op.Value, error) {
	kind := map[op.DType]int{op.Float32: kindFloat, op.Int64: kindInt64, op.Bool: kindBool}[dt]
	t, err := b.to(x.(*tensor), kind)
	if err != nil {
		return nil, err
	}
	return t, nil
}

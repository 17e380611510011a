package trace

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

func (b *builder) Unary(k op.UnaryOp, x op.Value) (op.Value, error) {
	s, err := floats(x)
	if err != nil {
		return nil, err
	}
	return b.op(k.String(), op.Float32, s[0].dims...)
}

func (b *builder) Binary(k op.BinaryOp, x, y op.Value) (op.Value, error) {
	v, err := shapes(x, y)
	if err != nil {
		return nil, err
	}
	s, t := v[0], v[1]
	if s.dt != t.dt || s.dt == op.Bool {
		return nil, fmt.Errorf("of %v and %v", s.dt, t.dt)
	}
	dims, err := b.broadcast(s.dims, t.dims)
	if err != nil {
		return nil, err
	}
	dt := s.dt
	if k == op.Less || k == op.Equal {
		dt = op.Bool
	}
	return b.op(k.String(), dt, dims...)
}

func (b *builder) MatMul(x, y op.Value) (op.Value, error) {
	s, err := floats(x, y)
	if err != nil {
		return nil, err
	}
	p, q := s[0].dims, s[1].dims
	m, n := len(p), len(q)
	if m < 2 || n < 2 || !same(p[m-1], q[n-2]) {
		return nil, fmt.Errorf("dims %v and %v", public(p), public(q))
	}
	dims, err := b.broadcast(p[:m-2], q[:n-2])
	if err != nil {
		return nil, err
	}
	return b.op("MatMul", op.Float32, append(dims, p[m-2], q[n-1])...)
}

func (b *builder) Conv2D(x, weight, bias op.Value, stride, padding int) (op.Value, error) {
	s, err := floats(x, weight)
	if err != nil {
		return nil, err
	}
	in, w := s[0].dims, s[1].dims
	if len(w) != 4 || stride < 1 || padding < 0 {
		return nil, fmt.Errorf("kernel of dims %v, stride %d, padding %d", w, stride, padding)
	}
	if err := want("image", in, -1, w[1], -1, -1); err != nil {
		return nil, err
	}
	if bias != nil {
		if err := want("bias", bias.(shape).dims, w[0]); err != nil {
			return nil, err
		}
	}
	out := []int{in[0], w[0], 0, 0}
	for i := 2; i < 4; i++ {
		switch {
		case in[i] >= 0:
			if out[i] = (in[i]+2*padding-w[i])/stride + 1; out[i] < 1 {
				return nil, fmt.Errorf("kernel of dims %v on an image of dims %v", w, public(in))
			}
		case stride == 1 && w[i] == 2*padding+1:
			out[i] = in[i]
		default:
			out[i] = b.symbol("conv %d %d %d %d", in[i], w[i], stride, padding)
		}
	}
	return b.op("Conv2D", op.Float32, out...)
}

func (b *builder) GroupNorm(x op.Value, groups int, weight, bias op.Value, eps float64) (op.Value, error) {
	s, err := floats(x, weight, bias)
	if err != nil {
		return nil, err
	}
	in := s[0].dims
	if len(in) < 2 || groups < 1 || len(s[1].dims) != 1 || s[1].dims[0]%groups != 0 || !same(in[1], s[1].dims[0]) {
		return nil, fmt.Errorf("%d groups of dims %v with weights of dims %v", groups, public(in), s[1].dims)
	}
	if err := want("bias", s[2].dims, s[1].dims...); err != nil {
		return nil, err
	}
	return b.op("GroupNorm", op.Float32, in...)
}

func (b *builder) LayerNorm(x, weight, bias op.Value, eps float64) (op.Value, error) {
	s, err := floats(x, weight, bias)
	if err != nil {
		return nil, err
	}
	in := s[0].dims
	if len(in) < 1 {
		return nil, fmt.Errorf("of a scalar")
	}
	for i, name := range []string{"weight", "bias"} {
		if err := want(name, s[1+i].dims, in[len(in)-1]); err != nil {
			return nil, err
		}
	}
	return b.op("LayerNorm", op.Float32, in...)
}

func (b *builder) Softmax(x op.Value, dim int) (op.Value, error) {
	s, err := floats(x)
	if err != nil {
		return nil, err
	}
	if _, err := axis(s[0], dim); err != nil {
		return nil, err
	}
	return b.op("Softmax", op.Float32, s[0].dims...)
}

func (b *builder) reduce(name string, x op.Value, axes []int) (op.Value, error) {
	s, err := floats(x)
	if err != nil {
		return nil, err
	}
	if len(axes) == 0 {
		return nil, fmt.Errorf("no axes")
	}
	dims := slices.Clone(s[0].dims)
	for _, a := range axes {
		i, err := axis(s[0], a)
		if err != nil {
			return nil, err
		}
		dims[i] = 1
	}
	return b.op(name, op.Float32, dims...)
}

func (b *builder) ReduceMean(x op.Value, axes ...int) (op.Value, error) {
	return b.reduce("ReduceMean", x, axes)
}

func (b *builder) ReduceMax(x op.Value, axes ...int) (op.Value, error) {
	return b.reduce("ReduceMax", x, axes)
}

func (b *builder) ArgMax(x op.Value, dim int) (op.Value, error) {
	s := x.(shape)
	i, err := axis(s, dim)
	if err != nil {
		return nil, err
	}
	return b.op("ArgMax", op.Int64, slices.Delete(slices.Clone(s.dims), i, i+1)...)
}

func (b *builder) Where(cond, x, y op.Value) (op.Value, error) {
	v, err := shapes(cond, x, y)
	if err != nil {
		return nil, err
	}
	c, s, t := v[0], v[1], v[2]
	if c.dt != op.Bool || s.dt != t.dt {
		return nil, fmt.Errorf("picks of %v by %v and %v", c.dt, s.dt, t.dt)
	}
	dims, err := b.broadcast(s.dims, t.dims)
	if err != nil {
		return nil, err
	}
	if dims, err = b.broadcast(c.dims, dims); err != nil {
		return nil, err
	}
	return b.op("Where", s.dt, dims...)
}

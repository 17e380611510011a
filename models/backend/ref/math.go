package ref

import (
	"fmt"
	"math"

	"likeness/models/op"
)

var unary = map[op.UnaryOp]func(float64) float64{
	op.Neg: func(x float64) float64 { return -x }, op.Exp: math.Exp, op.Log: math.Log, op.Sqrt: math.Sqrt, op.Sin: math.Sin, op.Cos: math.Cos,
	op.Tanh: math.Tanh, op.Sigmoid: func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }, op.Erf: math.Erf,
}

func (b *builder) Unary(k op.UnaryOp, x op.Value) (op.Value, error) {
	t, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	f, ok := unary[k]
	if !ok {
		return nil, fmt.Errorf("unknown function %d", k)
	}
	out := floats(t[0].dims)
	for i, v := range t[0].f {
		out.f[i] = float32(f(float64(v)))
	}
	return out, nil
}

// binary is the value of an arithmetic function.
func binary[T float32 | int64](k op.BinaryOp, x, y T) T {
	switch k {
	case op.Add:
		return x + y
	case op.Sub:
		return x - y
	case op.Mul:
		return x * y
	}
	return x / y
}

func compare[T float32 | int64](k op.BinaryOp, x, y T) int64 {
	return bit(k == op.Less && x < y || k == op.Equal && x == y)
}

func (b *builder) Binary(k op.BinaryOp, x, y op.Value) (op.Value, error) {
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	ts, err := operands(t.dt, x, y)
	if err != nil {
		return nil, err
	}
	u := ts[1]
	if t.dt == op.Bool || t.dt == op.Int64 && k == op.Div {
		return nil, fmt.Errorf("of %v", t.dt)
	}
	dims, err := broadcast(t.dims, u.dims)
	if err != nil {
		return nil, err
	}
	p, q := spread(t.dims, dims), spread(u.dims, dims)
	logical, isFloat := k == op.Less || k == op.Equal, t.dt == op.Float32
	out := floats(dims)
	if logical {
		out = ints(op.Bool, dims)
	} else if !isFloat {
		out = ints(op.Int64, dims)
	}
	for i := range p {
		switch {
		case logical && isFloat:
			out.i[i] = compare(k, t.f[p[i]], u.f[q[i]])
		case logical:
			out.i[i] = compare(k, t.i[p[i]], u.i[q[i]])
		case isFloat:
			out.f[i] = binary(k, t.f[p[i]], u.f[q[i]])
		default:
			out.i[i] = binary(k, t.i[p[i]], u.i[q[i]])
		}
	}
	return out, nil
}

func (b *builder) Where(cond, x, y op.Value) (op.Value, error) {
	c, err := operands(op.Bool, cond)
	if err != nil {
		return nil, err
	}
	t, err := operand(x)
	if err != nil {
		return nil, err
	}
	ts, err := operands(t.dt, x, y)
	if err != nil {
		return nil, err
	}
	dims, err := broadcast(t.dims, ts[1].dims)
	if err != nil {
		return nil, err
	}
	if dims, err = broadcast(c[0].dims, dims); err != nil {
		return nil, err
	}
	out, other := t.pick(dims, spread(t.dims, dims)), ts[1].pick(dims, spread(ts[1].dims, dims))
	for i, p := range spread(c[0].dims, dims) {
		switch {
		case c[0].i[p] != 0:
		case t.dt == op.Float32:
			out.f[i] = other.f[i]
		default:
			out.i[i] = other.i[i]
		}
	}
	return out, nil
}

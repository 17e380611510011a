// Package ref is the Builder in plain Go: slow, simple, the truth that the fast ones are tested against. It has no fused forms, so every
// composite is computed as [op] writes it. Sums are taken in float64, values kept in float32.
package ref

import (
	"errors"
	"fmt"
	"slices"

	"likeness/models/op"
)

// Run builds the model over the weights, by full name, and the inputs, and returns its outputs, which must not be Bool. Weights and
// inputs that the model does not read are ignored. The outputs belong to the caller.
func Run(model op.Model, weights, inputs map[string]op.Array) (map[string]op.Array, error) {
	values, err := op.Build(&builder{weights, inputs}, model)
	if err != nil {
		return nil, err
	}
	outputs := make(map[string]op.Array, len(values))
	for name, v := range values {
		t, err := operand(v)
		switch {
		case err != nil:
			return nil, fmt.Errorf("output %s: %w", name, err)
		case t.dt == op.Bool:
			return nil, fmt.Errorf("output %s: is bool: cast it", name)
		case t.dt == op.Int64:
			outputs[name] = op.Ints(slices.Clone(t.i), slices.Clone(t.dims)...)
		default:
			outputs[name] = op.Floats(slices.Clone(t.f), slices.Clone(t.dims)...)
		}
	}
	return outputs, nil
}

// builder computes as it is called.
type builder struct {
	weights, inputs map[string]op.Array
}

// tensor is the Builder's value, never changed once made.
type tensor struct {
	dims []int
	dt   op.DType
	f    []float32 // of Float32
	i    []int64   // of Int64, and of Bool as 0 and 1
}

func floats(dims []int) *tensor { return &tensor{dims: dims, f: make([]float32, op.Size(dims))} }

func ints(dt op.DType, dims []int) *tensor {
	return &tensor{dims: dims, dt: dt, i: make([]int64, op.Size(dims))}
}

func operand(x op.Value) (*tensor, error) {
	if t, ok := x.(*tensor); ok {
		return t, nil
	}
	return nil, errors.New("an operand is missing")
}

// operands are tensors of one type.
func operands(dt op.DType, xs ...op.Value) ([]*tensor, error) {
	ts := make([]*tensor, len(xs))
	for i, x := range xs {
		t, err := operand(x)
		if err != nil {
			return nil, err
		}
		if t.dt != dt {
			return nil, fmt.Errorf("operand of dims %v is %v, want %v", t.dims, t.dt, dt)
		}
		ts[i] = t
	}
	return ts, nil
}

// axis resolves a negative axis of t.
func (t *tensor) axis(i int) (int, error) {
	if n := len(t.dims); i >= -n && i < n {
		return (i + n) % n, nil
	}
	return 0, fmt.Errorf("axis %d of dims %v", i, t.dims)
}

func (b *builder) Input(name string, dt op.DType, dims ...int) (op.Value, error) {
	a, ok := b.inputs[name]
	if !ok {
		return nil, errors.New("is not given")
	}
	if err := a.Check(); err != nil {
		return nil, err
	}
	t := &tensor{slices.Clone(a.Dims), dt, a.F32, a.I64}
	fits := len(dims) == len(t.dims) && (dt == op.Int64 && t.f == nil || dt == op.Float32 && t.i == nil)
	for i := 0; fits && i < len(dims); i++ {
		fits = dims[i] == -1 || dims[i] == t.dims[i]
	}
	if !fits {
		return nil, fmt.Errorf("has dims %v, want %v %v", t.dims, dt, dims)
	}
	return t, nil
}

func (b *builder) Weight(name string, dims ...int) (op.Value, error) {
	a, ok := b.weights[name]
	if !ok {
		return nil, fmt.Errorf("%s is missing", name)
	}
	if err := a.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !slices.Equal(a.Dims, dims) || a.I64 != nil {
		return nil, fmt.Errorf("%s has dims %v, want float32 %v", name, a.Dims, dims)
	}
	return &tensor{dims: slices.Clone(dims), f: a.F32}, nil
}

func (b *builder) Const(v []float32, dims ...int) (op.Value, error) {
	if err := op.Floats(v, dims...).Check(); err != nil {
		return nil, err
	}
	return &tensor{dims: slices.Clone(dims), f: slices.Clone(v)}, nil
}

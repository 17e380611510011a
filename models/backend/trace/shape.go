package trace

import (
	"errors"
	"fmt"
	"slices"

	"likeness/models/op"
)

// shape is the Builder's value. A negative dimension is a symbol: equal symbols are equal sizes, unequal ones may be.
type shape struct {
	dims []int
	dt   op.DType
	id   int // of what an input or an operation made, from 1; 0 for weights and constants
}

// builder records. Weights are [Weights] by name.
type builder struct {
	weights map[string][]int
	inputs  map[string]Port
	ops     map[string]int
	symbols map[string]int // by what they are derived from
	made    int            // ids
}

// symbol names a size that is known at a run only; the same description is the same size.
func (b *builder) symbol(format string, args ...any) int {
	key := fmt.Sprintf(format, args...)
	if s, ok := b.symbols[key]; ok {
		return s
	}
	b.symbols[key] = -2 - len(b.symbols)
	return b.symbols[key]
}

func (b *builder) op(name string, dt op.DType, dims ...int) (op.Value, error) {
	b.ops[name]++
	return b.make(dims, dt), nil
}

func (b *builder) make(dims []int, dt op.DType) shape {
	b.made++
	return shape{dims, dt, b.made}
}

func (b *builder) Input(name string, dt op.DType, dims ...int) (op.Value, error) {
	if p, ok := b.inputs[name]; ok && (p.Type != dt || !slices.Equal(p.Dims, dims)) {
		return nil, fmt.Errorf("input %s is declared as %v %v and as %v %v", name, p.Type, p.Dims, dt, dims)
	}
	b.inputs[name] = Port{name, dt, slices.Clone(dims)}
	s := b.make(slices.Clone(dims), dt)
	for i, d := range dims {
		if d == -1 {
			s.dims[i] = b.symbol("input %s %d", name, i)
			if i == 0 {
				s.dims[i] = b.symbol("batch")
			}
		}
	}
	return s, nil
}

func (b *builder) Weight(name string, dims ...int) (op.Value, error) {
	for _, d := range dims {
		if d < 1 {
			return nil, fmt.Errorf("dims %v", dims)
		}
	}
	if before, ok := b.weights[name]; ok && !slices.Equal(before, dims) {
		return nil, fmt.Errorf("is used with dims %v and %v", before, dims)
	}
	b.weights[name] = slices.Clone(dims)
	return shape{slices.Clone(dims), op.Float32, 0}, nil
}

func (b *builder) Const(v []float32, dims ...int) (op.Value, error) {
	if len(v) != op.Size(dims) {
		return nil, fmt.Errorf("%d values for dims %v", len(v), dims)
	}
	return shape{slices.Clone(dims), op.Float32, 0}, nil
}

// broadcast combines dims as NumPy does; a symbol against a number takes the number, unless that is 1.
func (b *builder) broadcast(x, y []int) ([]int, error) {
	n := max(len(x), len(y))
	out := make([]int, n)
	at := func(d []int, i int) int {
		if i += len(d) - n; i >= 0 {
			return d[i]
		}
		return 1
	}
	for i := range out {
		p, q := at(x, i), at(y, i)
		switch {
		case p == q || q == 1:
			out[i] = p
		case p == 1 || p < 0:
			out[i] = q
		case q < 0:
			out[i] = p
		default:
			return nil, fmt.Errorf("dims %v and %v do not broadcast", public(x), public(y))
		}
	}
	return out, nil
}

// axis resolves a negative axis.
func axis(s shape, i int) (int, error) {
	if i < -len(s.dims) || i >= len(s.dims) {
		return 0, fmt.Errorf("axis %d of dims %v", i, public(s.dims))
	}
	return (i + len(s.dims)) % len(s.dims), nil
}

var (
	errFloat   = errors.New("wants float32 tensors")
	errMissing = errors.New("an operand is missing")
)

// shapes are operands none of which may be left out.
func shapes(vs ...op.Value) ([]shape, error) {
	out := make([]shape, len(vs))
	for i, v := range vs {
		s, ok := v.(shape)
		if !ok {
			return nil, errMissing
		}
		out[i] = s
	}
	return out, nil
}

func floats(vs ...op.Value) ([]shape, error) {
	out, err := shapes(vs...)
	if err == nil && slices.ContainsFunc(out, func(s shape) bool { return s.dt != op.Float32 }) {
		err = errFloat
	}
	return out, err
}

// same tells whether two dimensions may be equal.
func same(p, q int) bool { return p == q || p < 0 || q < 0 }

func want(what string, got []int, dims ...int) error {
	ok := len(got) == len(dims)
	for i := 0; ok && i < len(dims); i++ {
		ok = same(got[i], dims[i])
	}
	if !ok {
		return fmt.Errorf("%s has dims %v, want %v", what, public(got), public(dims))
	}
	return nil
}

package op

// Blocks is a Builder that computes a model block by block: f makes a block's result of its inputs xs, some of which may be nil. What f makes
// on the way is kept as long as the block takes and, for a backward pass, as far as that reads it. With recompute the backward pass keeps the
// inputs alone and calls f again (Chen et al. 2016): time for memory.
type Blocks interface {
	Block(f func(xs []Value) (Value, error), xs []Value, recompute bool) (Value, error)
}

// WithRecompute makes the backward pass compute the blocks under s again.
func (s Scope) WithRecompute() Scope {
	s.recompute = true
	return s
}

// Block is f(xs), a part of a network that a Builder may treat as one. What f reads of the rest of the network must be in xs, where zero
// Tensors may be.
func (s Scope) Block(f func(xs []Tensor) Tensor, xs ...Tensor) Tensor {
	b, ok := s.b.(Blocks)
	if !ok {
		return f(xs)
	}
	values := make([]Value, len(xs))
	for i, x := range xs {
		values[i] = x.v
	}
	v, err := b.Block(func(values []Value) (y Value, err error) {
		again := make([]Tensor, len(xs))
		for i, x := range xs {
			again[i] = Tensor{x.b, x.path, values[i]}
		}
		err = caught(func() { y = f(again).v })
		return y, err
	}, values, s.recompute)
	if inner, ok := err.(*Error); ok {
		panic(inner)
	}
	return s.wrap("Block", v, err)
}

//go:build torch

package torch

import (
	"fmt"
	"maps"
	"slices"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

// Params is a set of named float32 weights in libtorch's memory. Trainable ones gather gradients.
type Params struct {
	engine    *Engine
	trainable bool
	names     []string // sorted
	tensors   map[string]*tensor
}

// NewParams copies weights to libtorch.
func (e *Engine) NewParams(weights map[string]op.Array, trainable bool) (*Params, error) {
	return e.ReadParams(slices.Collect(maps.Keys(weights)), func(name string) (op.Array, error) { return weights[name], nil }, trainable)
}

// ReadParams is NewParams of weights that are read one after another.
func (e *Engine) ReadParams(names []string, read func(name string) (op.Array, error), trainable bool) (*Params, error) {
	p := &Params{engine: e, trainable: trainable, tensors: map[string]*tensor{}}
	err := e.do(func() error {
		for _, name := range names {
			a, err := read(name)
			if err != nil {
				return err
			}
			if a.I64 != nil {
				return fmt.Errorf("weight %s is not a float tensor", name)
			}
			c, err := newTensor(a)
			if err != nil {
				return fmt.Errorf("weight %s: %w", name, err)
			}
			p.names = append(p.names, name)
			p.tensors[name] = describe(c)
			if trainable {
				if err := p.track(c); err != nil {
					return fmt.Errorf("weight %s: %w", name, err)
				}
			}
		}
		return nil
	})
	slices.Sort(p.names)
	if err != nil {
		p.Free()
		return nil, err
	}
	return p, nil
}

// Names lists the weights, sorted.
func (p *Params) Names() []string { return slices.Clone(p.names) }

// Bytes is the memory of the weights alone.
func (p *Params) Bytes() int64 {
	var n int64
	for _, t := range p.tensors {
		n += 4 * int64(op.Size(t.dims))
	}
	return n
}

// track makes a leaf gather a gradient, zero at first.
func (p *Params) track(c lib.Ctensor) error {
	b := builder{engine: p.engine}
	defer b.free()
	if _, err := b.call("requires_grad", func(out *lib.Ctensor) { lib.AtgSetRequiresGrad(out, c, 1) }); err != nil {
		return err
	}
	return nil
}

// values is a view of a weight's memory.
func (p *Params) values(name string) []float32 {
	t := p.tensors[name]
	return floats(t.c, op.Size(t.dims))
}

func floats(c lib.Ctensor, n int) []float32 {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(lib.AtDataPtr(c)), n)
}

// Views are the weights where they lie: to be read only, until p is freed; they change as p does.
func (p *Params) Views() (map[string]op.Array, error) {
	out := map[string]op.Array{}
	err := p.engine.do(func() error {
		for name, t := range p.tensors {
			out[name] = op.Floats(p.values(name), t.dims...)
		}
		return nil
	})
	return out, err
}

// Arrays copies the weights to Go's memory.
func (p *Params) Arrays() (map[string]op.Array, error) {
	out := map[string]op.Array{}
	err := p.engine.do(func() error {
		for name, t := range p.tensors {
			out[name] = op.Floats(slices.Clone(p.values(name)), t.dims...)
		}
		return nil
	})
	return out, err
}

// Gradients copies the gathered gradients; weights that had no part in a loss are left out.
func (p *Params) Gradients() (map[string]op.Array, error) {
	out := map[string]op.Array{}
	err := p.engine.do(func() error {
		return p.eachGradient(func(name string, gradient []float32) {
			out[name] = op.Floats(slices.Clone(gradient), p.tensors[name].dims...)
		})
	})
	return out, err
}

// eachGradient visits views of the gradients, on libtorch's thread.
func (p *Params) eachGradient(f func(name string, gradient []float32)) error {
	b := builder{engine: p.engine}
	defer b.free()
	for _, name := range p.names {
		t := p.tensors[name]
		g, err := b.call("gradient", func(out *lib.Ctensor) { lib.AtgGrad(out, t.c) })
		if err != nil {
			return fmt.Errorf("gradient of %s: %w", name, err)
		}
		if !lib.AtDefined(g.c) {
			continue
		}
		if g, err = b.call("gradient", func(out *lib.Ctensor) { lib.AtgContiguous(out, g.c) }); err != nil {
			return fmt.Errorf("gradient of %s: %w", name, err)
		}
		f(name, floats(g.c, op.Size(t.dims)))
	}
	return nil
}

// Set overwrites the weights. The names and sizes must be those of p.
func (p *Params) Set(weights map[string]op.Array) error {
	if err := p.same(weights); err != nil {
		return err
	}
	return p.engine.do(func() error {
		for name, a := range weights {
			copy(p.values(name), a.F32)
		}
		return nil
	})
}

func (p *Params) same(weights map[string]op.Array) error {
	if len(weights) != len(p.names) {
		return fmt.Errorf("%d weights, want %d", len(weights), len(p.names))
	}
	for name, a := range weights {
		t, ok := p.tensors[name]
		if !ok {
			return fmt.Errorf("unexpected weight %s", name)
		}
		if len(a.F32) != op.Size(t.dims) {
			return fmt.Errorf("weight %s has dims %v, want %v", name, a.Dims, t.dims)
		}
	}
	return nil
}

// Take moves the weights of other, which must have other names, to p. other must not be used afterwards.
func (p *Params) Take(other *Params) {
	p.engine.do(func() error {
		maps.Copy(p.tensors, other.tensors)
		p.names = append(p.names, other.names...)
		slices.Sort(p.names)
		other.tensors = nil
		return nil
	})
}

// Free gives the memory back. p must not be used afterwards.
func (p *Params) Free() {
	p.engine.do(func() error {
		for _, t := range p.tensors {
			lib.AtFree(t.c)
		}
		p.tensors = nil
		return nil
	})
}

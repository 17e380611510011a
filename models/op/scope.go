package op

import (
	"errors"
	"fmt"
	"strings"
)

// Error is what a model's construction fails with: the weight path and the operation that failed.
type Error struct {
	Path string // dotted weight path of the enclosing Scope; empty at the root
	Op   string
	Err  error
}

func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Path, e.Op, e.Err)
}

// Unwrap returns the Builder's own error.
func (e *Error) Unwrap() error { return e.Err }

// Model is a network: it reads inputs and weights through the scope and returns its named outputs.
type Model func(Scope) map[string]Tensor

// Build runs model on b and returns the named outputs. It is the one place where the panics of [Tensor] and [Scope] become an error.
func Build(b Builder, model Model) (map[string]Value, error) {
	outputs := map[string]Value{}
	err := caught(func() {
		for name, t := range model(Scope{b: b}) {
			outputs[name] = t.v
		}
	})
	if err != nil {
		return nil, err
	}
	return outputs, nil
}

// caught runs f and returns the error that it stopped with.
func caught(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	f()
	return nil
}

// Scope is a place in the tree of weight names.
type Scope struct {
	b         Builder
	component string
	path      string
	deltas    Deltas
	weights   Weights
	edits     Edits
	recompute bool
}

// Component enters a network of its own inside a larger model: its weights are named "component/path", its paths start anew.
func (s Scope) Component(name string) Scope {
	s.component, s.path = name+"/", ""
	return s
}

// At descends into a submodule: s.At("attn1", "to_q") of "blocks.0" is "blocks.0.attn1.to_q".
func (s Scope) At(parts ...string) Scope {
	s.path = s.name(strings.Join(parts, "."))
	return s
}

// Index descends into element i of a named list.
func (s Scope) Index(list string, i int) Scope { return s.At(fmt.Sprintf("%s.%d", list, i)) }

// Path returns the dotted name of the scope.
func (s Scope) Path() string { return s.path }

func (s Scope) name(leaf string) string {
	if s.path == "" {
		return leaf
	}
	return s.path + "." + leaf
}

func (s Scope) wrap(name string, v Value, err error) Tensor {
	return Tensor{b: s.b, path: s.path}.wrap(name, v, err)
}

// Weight is the tensor of the checkpoint with this name under the scope.
func (s Scope) Weight(name string, dims ...int) Tensor {
	if s.weights != nil {
		if t, ok := s.weights(s.name(name), dims...); ok {
			return t
		}
	}
	v, err := s.b.Weight(s.component+s.name(name), dims...)
	return s.wrap("Weight "+name, v, err)
}

// Weights gives a tensor in the place of the weight of a dotted name; ok is false where the weight is the checkpoint's.
type Weights func(name string, dims ...int) (t Tensor, ok bool)

// WithWeights makes networks under s read their weights from weights first. Nil takes them away.
func (s Scope) WithWeights(weights Weights) Scope {
	s.weights = weights
	return s
}

// Input declares an input of the run; names of inputs do not depend on the scope.
func (s Scope) Input(name string, dt DType, dims ...int) Tensor {
	v, err := s.b.Input(name, dt, dims...)
	return s.wrap("Input "+name, v, err)
}

// Const is a tensor known now; no dims make a scalar.
func (s Scope) Const(v []float32, dims ...int) Tensor {
	c, err := s.b.Const(v, dims...)
	return s.wrap("Const", c, err)
}

// Fail stops the construction with an error at this scope, for a configuration that the model cannot build.
func (s Scope) Fail(format string, args ...any) {
	panic(&Error{Path: s.path, Op: "config", Err: errors.New(fmt.Sprintf(format, args...))})
}

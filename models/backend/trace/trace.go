// Package trace is the Builder that only records: it checks shapes and says which weights, inputs and operations a model is made of.
package trace

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"likeness/models/op"
)

// Weight is one tensor that a model reads from its checkpoint.
type Weight struct {
	Name string
	Dims []int
}

// Port is an input of a model's runs; -1 is a symbolic dimension.
type Port struct {
	Name string
	Type op.DType
	Dims []int
}

// Record is what a model is made of.
type Record struct {
	Weights []Weight         // sorted by name
	Inputs  []Port           // sorted by name
	Outputs map[string][]int // dims, -1 where symbolic
	Ops     map[string]int   // how often each primitive is used
}

// Model records a model.
func Model(model op.Model) (*Record, error) {
	b := newBuilder()
	values, err := op.Build(b, model)
	if err != nil {
		return nil, err
	}
	r := &Record{Outputs: map[string][]int{}, Ops: b.ops}
	for _, name := range slices.Sorted(maps.Keys(b.weights)) {
		r.Weights = append(r.Weights, Weight{name, b.weights[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(b.inputs)) {
		r.Inputs = append(r.Inputs, b.inputs[name])
	}
	for name, v := range values {
		r.Outputs[name] = public(v.(shape).dims)
	}
	return r, nil
}

func newBuilder() *builder {
	return &builder{weights: map[string][]int{}, inputs: map[string]Port{}, ops: map[string]int{}, symbols: map[string]int{}}
}

// Weights lists the weights of a model, sorted by name.
func Weights(model op.Model) ([]Weight, error) {
	r, err := Model(model)
	if err != nil {
		return nil, err
	}
	return r.Weights, nil
}

// Layout lists the linear weights "<path>.weight" [out, in] whose path matches, as targets of offsets of the rank.
func Layout(model op.Model, rank int, match func(path string) bool) (*op.Layout, error) {
	weights, err := Weights(model)
	if err != nil {
		return nil, err
	}
	var targets []op.Target
	for _, w := range weights {
		path, ok := strings.CutSuffix(w.Name, ".weight")
		if ok && len(w.Dims) == 2 && match(path) {
			targets = append(targets, op.Target{Path: path, In: w.Dims[1], Out: w.Dims[0]})
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("no linear layer of the model matches the offsets' targets")
	}
	return op.NewLayout(rank, targets)
}

func public(dims []int) []int {
	out := slices.Clone(dims)
	for i, d := range out {
		out[i] = max(d, -1)
	}
	return out
}

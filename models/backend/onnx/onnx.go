// Package onnx is the [op.Builder] that writes a model as an ONNX graph over weights that stay in their safetensors files.
package onnx

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"likeness/models/op"
)

// The operator sets of a graph: 20 is the first with Gelu and ONNX Runtime has run it since 1.17; com.microsoft is
// ONNX Runtime's own, for MultiHeadAttention and QuickGelu; likeness is package ort's, for the CPU.
const (
	opset     = 20
	irVersion = 9
	microsoft = "com.microsoft"
	likeness  = "likeness" // package ort's own
)

// maxProto is protobuf's limit on a message.
const maxProto = 1<<31 - 1

// Port is a named input or output of a graph; -1 is a dimension that each run chooses.
type Port struct {
	Name  string
	DType op.DType
	Dims  []int
}

// Graph is a model ready to run.
type Graph struct {
	Name    string
	Model   []byte // an ONNX ModelProto
	Folder  string // what the locations of external weights are relative to; empty where there are none
	Inputs  []Port // sorted by name
	Outputs []Port // sorted by name
}

// Options configures Emit.
type Options struct {
	Name    string    // of the graph, for errors and profiles
	Compute Precision // of weights, and of what is computed with them; inputs and outputs are float32 always
	// OwnOps has convolutions, linear layers, attention and norms as operators of package ort, which only its sessions for the CPU in float32 have.
	OwnOps bool
}

// Precision is a type of floating-point numbers. The zero Precision is Float32.
type Precision int

// The precisions.
const (
	Float32 Precision = iota
	Float16
	BFloat16
)

// String is the name that PyTorch gives it.
func (p Precision) String() string { return [...]string{"float32", "float16", "bfloat16"}[p] }

var computeType = map[Precision]int{Float32: protoFloat, Float16: protoFloat16, BFloat16: protoBFloat16}

// WeightsError lists every weight that the model asks for and cannot have.
type WeightsError struct {
	Graph    string
	Problems []string // "name [dims]: reason"
}

func (e *WeightsError) Error() string {
	return fmt.Sprintf("graph %s: %d weights do not fit the model:\n\t%s", e.Graph, len(e.Problems), strings.Join(e.Problems, "\n\t"))
}

// Emit writes model as a graph over weights. Weights that are missing or have other dims than the model asks for are a
// *WeightsError; nil weights are none.
func Emit(model op.Model, weights Weights, o Options) (*Graph, error) {
	if weights == nil {
		weights = FromArrays(nil)
	}
	b := &builder{weights: weights, compute: computeType[o.Compute], ownOps: o.OwnOps, values: map[string]*value{}, derived: map[string]*value{}, inputs: map[string]Port{}}
	outputs, err := op.Build(b, model)
	if err != nil {
		return nil, fmt.Errorf("graph %s: %w", o.Name, err)
	}
	if len(b.problems) > 0 {
		slices.Sort(b.problems)
		return nil, &WeightsError{Graph: o.Name, Problems: b.problems}
	}
	g := &Graph{Name: o.Name}
	if g.Folder, err = b.placeWeights(); err != nil {
		return nil, fmt.Errorf("graph %s: %w", o.Name, err)
	}
	for _, name := range slices.Sorted(maps.Keys(outputs)) {
		v := outputs[name].(*value)
		if _, twice := b.inputs[name]; twice || v.dt == op.Bool {
			return nil, fmt.Errorf("graph %s: output %q: must be float32 or int64 and have a name that no input has", o.Name, name)
		}
		g.Outputs = append(g.Outputs, Port{name, v.dt, v.dims})
		b.output(name, v)
	}
	for _, name := range slices.Sorted(maps.Keys(b.inputs)) {
		g.Inputs = append(g.Inputs, b.inputs[name])
	}
	if g.Model = b.model(o.Name); len(g.Model) > maxProto {
		return nil, fmt.Errorf("graph %s: %d bytes are over protobuf's limit: keep the weights in a file", o.Name, len(g.Model))
	}
	return g, nil
}

// placeWeights makes the files' common folder, with symbolic links resolved, the one that locations are relative to, because
// ONNX Runtime reads external data only from below one folder.
func (b *builder) placeWeights() (folder string, err error) {
	real := map[string]string{}
	for _, w := range b.external {
		if _, seen := real[w.Path]; seen {
			continue
		}
		path, err := filepath.EvalSymlinks(w.Path)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return "", fmt.Errorf("weights: %w", err)
		}
		real[w.Path] = path
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			if folder == "" || isBelow(folder, dir) {
				folder = dir
			}
			if isBelow(path, folder) {
				break
			}
		}
	}
	for _, w := range b.external {
		location, err := filepath.Rel(folder, real[w.Path])
		if err != nil {
			return "", fmt.Errorf("weights: %w", err)
		}
		b.place(w, filepath.ToSlash(location))
	}
	return folder, nil
}

func isBelow(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// model is the ModelProto.
func (b *builder) model(name string) []byte {
	b.graph.string(2, name)
	var m message
	m.int(1, irVersion)
	m.string(2, "likeness")
	m.bytes(7, b.graph)
	for _, set := range []struct {
		domain  string
		version int64
	}{{"", opset}, {microsoft, 1}, {likeness, 1}} {
		var id message
		id.string(1, set.domain)
		id.int(2, set.version)
		m.bytes(8, id)
	}
	return m
}

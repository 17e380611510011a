package onnx

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"likeness/models/op"
	"likeness/models/safetensors"
)

// value is a tensor of the graph.
type value struct {
	name string
	dt   op.DType
	dims []int
	half bool // its floats are of the builder's precision, not float32

	late func()        // nil, or emits the value's node, which waits until something reads it
	silu func() *value // nil, or makes SiLU of the value in the node that would have made the value
	raw  *value        // nil, or the weight in its file's half precision, of which the value is float32
}

type builder struct {
	weights  Weights
	compute  int // the type of weights, and of what is computed with them: protoFloat, or a half precision
	ownOps   bool
	graph    message // the GraphProto: its nodes, initializers, inputs and outputs in the order they are made
	nodes    int
	values   map[string]*value // weights by name
	derived  map[string]*value // constants by their content, shapes and transposes by what they are of
	inputs   map[string]Port
	external []Weight
	problems []string
}

var protoType = map[op.DType]int{op.Float32: protoFloat, op.Int64: protoInt64, op.Bool: protoBool}

// attrs are a node's attributes; the key "domain" is the node's domain instead.
type attrs map[string]any

// node appends a node of one output and returns it. A nil input is one that is left out.
func (b *builder) node(kind string, dt op.DType, dims []int, a attrs, inputs ...*value) *value {
	half := kind != "Cast" && b.meet(inputs, kind == "Resize")
	out := b.value(kind, dt, dims)
	out.half = half && dt == op.Float32
	b.emit(kind, out.name, a, inputs)
	return out
}

// value names what a node is going to make.
func (b *builder) value(kind string, dt op.DType, dims []int) *value {
	b.nodes++
	return &value{name: fmt.Sprintf("/%s_%d", kind, b.nodes), dt: dt, dims: dims}
}

// meet brings the operands of a node to one precision: half as soon as one of them is, so that what no weight has met, as the timestep's
// embedding, stays float32. It tells whether it is half. Where only the first operand counts, the others are left as they are.
func (b *builder) meet(inputs []*value, first bool) bool {
	if first {
		return inputs[0].half
	}
	if !slices.ContainsFunc(inputs, func(v *value) bool { return v != nil && v.half }) {
		return false
	}
	for i, v := range inputs {
		if v == nil || v.dt != op.Float32 || v.half {
			continue
		}
		key := "half " + v.name
		if b.derived[key] == nil {
			b.derived[key] = b.cast(v, b.compute)
		}
		inputs[i] = b.derived[key]
	}
	return true
}

// cast makes a value floats of the type.
func (b *builder) cast(v *value, to int) *value {
	out := b.node("Cast", op.Float32, v.dims, attrs{"to": to}, v)
	out.half = to != protoFloat
	return out
}

func (b *builder) emit(kind, output string, a attrs, inputs []*value) {
	var m message
	for _, in := range inputs {
		switch {
		case in == nil:
			m.string(1, "")
			continue
		case in.late != nil:
			in.late()
			in.late = nil
		}
		m.string(1, in.name)
	}
	m.string(2, output)
	m.string(3, output)
	m.string(4, kind)
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if name == "domain" {
			m.string(7, a[name].(string))
		} else {
			m.bytes(5, attribute(name, a[name]))
		}
	}
	b.graph.bytes(1, m)
}

// output gives v its outer name. Scalars leave as [1], because the binding cannot return a tensor without dims.
func (b *builder) output(name string, v *value) {
	dims, symbols := v.dims, make([]string, len(v.dims))
	for i := range symbols {
		symbols[i] = fmt.Sprintf("%s_%d", name, i)
	}
	if v.half {
		v = b.cast(v, protoFloat)
	}
	if len(dims) == 0 {
		dims = []int{1}
		b.emit("Reshape", name, nil, []*value{v, b.ints(1)})
	} else {
		b.emit("Identity", name, nil, []*value{v})
	}
	b.graph.bytes(12, valueInfo(name, protoType[v.dt], dims, symbols))
}

// Input implements [op.Builder].
func (b *builder) Input(name string, dt op.DType, dims ...int) (op.Value, error) {
	v := &value{name: name, dt: dt, dims: dims}
	if p, again := b.inputs[name]; again {
		if p.DType != dt || !slices.Equal(p.Dims, dims) {
			return nil, fmt.Errorf("declared before as %v %v, now as %v %v", p.DType, p.Dims, dt, dims)
		}
		return v, nil
	}
	if name == "" || len(dims) == 0 || dt == op.Bool {
		return nil, errors.New("an input needs a name, dims, and the type float32 or int64")
	}
	symbols := make([]string, len(dims))
	for i, d := range dims {
		if d < 1 && d != unknown {
			return nil, fmt.Errorf("dims %v", dims)
		}
		symbols[i] = fmt.Sprintf("%s_%d", name, i)
	}
	b.inputs[name] = Port{name, dt, slices.Clone(dims)}
	b.graph.bytes(11, valueInfo(name, protoType[dt], dims, symbols))
	return v, nil
}

var storedType = map[safetensors.DType]int{
	safetensors.TypeF32: protoFloat, safetensors.TypeF16: protoFloat16,
	safetensors.TypeBF16: protoBFloat16, safetensors.TypeF64: protoDouble,
}

// Weight implements [op.Builder]. The weight keeps its stored type; ONNX Runtime folds the Cast to the one that is computed in when it
// opens the graph, but of a weight that is read as it lies by all that read it, there is none.
func (b *builder) Weight(name string, dims ...int) (op.Value, error) {
	if v, ok := b.values[name]; ok {
		if !slices.Equal(v.dims, dims) {
			return nil, fmt.Errorf("used before with dims %v, now %v", v.dims, dims)
		}
		return v, nil
	}
	v := &value{name: name, dims: slices.Clone(dims)}
	b.values[name] = v
	w, ok := b.weights(name)
	stored, isFloat := storedType[w.DType]
	switch {
	case !ok:
		b.problems = append(b.problems, fmt.Sprintf("%s %v: missing", name, dims))
		return v, nil
	case !isFloat || !slices.Equal(w.Shape, dims) || w.Length != int64(op.Size(dims)*w.DType.Size()):
		b.problems = append(b.problems, fmt.Sprintf("%s %v: is %s %v of %d bytes", name, dims, w.DType, w.Shape, w.Length))
		return v, nil
	}
	w.Name = name
	if w.Path != "" {
		b.external = append(b.external, w)
	} else {
		m := tensor(name, stored, dims)
		m.bytes(9, w.Data)
		b.graph.bytes(5, m)
	}
	if v.half = stored == b.compute && stored != protoFloat; stored != b.compute {
		v = b.castWeight(v, stored)
		b.values[name] = v
	}
	return v, nil
}

// castWeight is the weight in the type that is computed in, once something reads it so.
func (b *builder) castWeight(v *value, stored int) *value {
	out := b.value("Cast", op.Float32, v.dims)
	out.half = b.compute != protoFloat
	out.late = func() { b.emit("Cast", out.name, attrs{"to": b.compute}, []*value{v}) }
	if b.compute == protoFloat && stored != protoDouble {
		out.raw = v
	}
	return out
}

// asStored is a weight as it lies in its file where it is of half precision, which package ort's operators read.
func asStored(weight *value) *value {
	if weight.raw != nil {
		return weight.raw
	}
	return weight
}

// place adds the initializer of a weight that lies in a file.
func (b *builder) place(w Weight, location string) {
	m := tensor(w.Name, storedType[w.DType], w.Shape)
	m.external(location, strconv.FormatInt(w.Offset, 10), strconv.FormatInt(w.Length, 10))
	b.graph.bytes(5, m)
}

// Const implements [op.Builder].
func (b *builder) Const(v []float32, dims ...int) (op.Value, error) {
	if err := op.Floats(v, dims...).Check(); err != nil {
		return nil, err
	}
	return b.constant(protoFloat, op.Float32, floatData(v), dims), nil
}

// ints is an Int64 vector known now.
func (b *builder) ints(v ...int) *value {
	return b.constant(protoInt64, op.Int64, intData(v), []int{len(v)})
}

// filled is a Float32 vector of n times x.
func (b *builder) filled(x float32, n int) *value {
	return b.constant(protoFloat, op.Float32, floatData(slices.Repeat([]float32{x}, n)), []int{n})
}

// constant returns the initializer with this content, which equal constants share.
func (b *builder) constant(dataType int, dt op.DType, data []byte, dims []int) *value {
	key := fmt.Sprint("constant ", dataType, dims, string(data))
	if v, ok := b.derived[key]; ok {
		return v
	}
	v := &value{name: fmt.Sprintf("/Const_%d", len(b.derived)), dt: dt, dims: slices.Clone(dims)}
	b.derived[key] = v
	m := tensor(v.name, dataType, dims)
	m.bytes(9, data)
	b.graph.bytes(5, m)
	return v
}

// operand turns the handle of a call into its value.
func operand(x op.Value) (*value, error) {
	if v, ok := x.(*value); ok {
		return v, nil
	}
	return nil, fmt.Errorf("operand is %T, not a tensor of this builder", x)
}

// operands turns handles into values of one type.
func operands(dt op.DType, xs ...op.Value) ([]*value, error) {
	vs := make([]*value, len(xs))
	for i, x := range xs {
		v, err := operand(x)
		if err != nil {
			return nil, err
		}
		if v.dt != dt {
			return nil, fmt.Errorf("operand %d is %v, needs %v", i, v.dt, dt)
		}
		vs[i] = v
	}
	return vs, nil
}

// alike is operands for two of whatever type the first has.
func alike(x, y op.Value) ([]*value, error) {
	v, err := operand(x)
	if err != nil {
		return nil, err
	}
	return operands(v.dt, x, y)
}

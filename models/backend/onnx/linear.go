package onnx

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

// Linear implements [op.Linear] as package ort's operator, which reads the weight as it lies in its file, and otherwise as Gemm over flattened
// rows. In int8 with a scale of each row and column (MatMulInteger) a UNet step takes 0.82 of the time, in bfloat16 (package ort) 0.30;
// MatMulNBits of 8 bits is slower than Gemm.
func (b *builder) Linear(x, weight, bias op.Value) (op.Value, error) {
	v, err := linearOperands(x, weight, bias)
	if err != nil {
		return nil, err
	}
	if b.ownsLinear(v[1]) {
		return b.ownLinear("Linear", v), nil
	}
	rank, w := len(v[0].dims), v[1].dims
	if rank > 2 {
		rows, err := b.Reshape(x, nil, -1, w[1])
		if err != nil {
			return nil, err
		}
		v[0] = rows.(*value)
	}
	y := b.node("Gemm", op.Float32, []int{v[0].dims[0], w[0]}, attrs{"transB": 1}, v...)
	if rank == 2 {
		return y, nil
	}
	dims := make([]int, rank)
	dims[rank-1] = w[0]
	return b.Reshape(y, x, dims...)
}

// linearOperands are the input, the weight and, where it isn't nil, the bias of a linear layer.
func linearOperands(x, weight, bias op.Value) ([]*value, error) {
	inputs := []op.Value{x, weight}
	if bias != nil {
		inputs = append(inputs, bias)
	}
	v, err := operands(op.Float32, inputs...)
	if err != nil {
		return nil, err
	}
	rank, w := len(v[0].dims), v[1].dims
	if len(w) != 2 || rank < 2 || !agree(v[0].dims[rank-1], w[1]) || (bias != nil && !slices.Equal(v[2].dims, w[:1])) {
		return nil, fmt.Errorf("input %v does not fit weight %v", v[0].dims, w)
	}
	return v, nil
}

// ownsLinear tells whether package ort has an operator for a linear layer of this weight.
func (b *builder) ownsLinear(weight *value) bool { return b.ownOps && weight.dims[0]%8 == 0 }

// ownLinear is that operator, of a layer's operands and more.
func (b *builder) ownLinear(kind string, layer []*value, more ...*value) *value {
	rank, out := len(layer[0].dims), layer[1].dims[0]
	dims := slices.Clone(layer[0].dims)
	dims[rank-1] = out
	inputs := []*value{layer[0], asStored(layer[1])}
	if len(layer) > 2 {
		inputs = append(inputs, layer[2])
	} else {
		inputs = append(inputs, b.filled(0, out))
	}
	return b.node(kind, op.Float32, dims, attrs{"domain": likeness}, append(inputs, more...)...)
}

// LoRALinear implements [op.LoRALinear], without package ort's operator as two products whose result is added.
func (b *builder) LoRALinear(x, weight, bias, down, up op.Value) (op.Value, error) {
	layer, err := linearOperands(x, weight, bias)
	if err != nil {
		return nil, err
	}
	change, err := operands(op.Float32, down, up)
	if err != nil {
		return nil, err
	}
	rows, d, u, w := layer[0].dims, change[0].dims, change[1].dims, layer[1].dims
	if len(rows) != 3 || len(d) != 3 || len(u) != 3 || !agree(d[0], u[0]) || !agree(d[1], w[1]) || !agree(d[2], u[1]) || !agree(u[2], w[0]) {
		return nil, fmt.Errorf("down %v and up %v do not fit input %v and weight %v", d, u, rows, w)
	}
	if b.ownsLinear(layer[1]) {
		return b.ownLinear("LoRALinear", layer, change...), nil
	}
	y, err := b.Linear(x, weight, bias)
	if err != nil {
		return nil, err
	}
	lower := b.node("MatMul", op.Float32, []int{rows[0], rows[1], d[2]}, nil, layer[0], change[0])
	sum := b.node("MatMul", op.Float32, []int{rows[0], rows[1], w[0]}, nil, lower, change[1])
	return b.Binary(op.Add, y, sum)
}

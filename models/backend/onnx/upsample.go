package onnx

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

// taps are which rows of a 3×3 kernel fall on the two rows of the small image that a row of the doubled one sees: even rows see the row
// before their own and their own, odd ones their own and the next.
var taps = [2][2][]int{{{0}, {1, 2}}, {{0, 1}, {2}}}

// UpsampleConv2D implements [op.UpsampleConv2D]: each of the four phases of the doubled image is a 2×2 convolution of the small one, whose
// kernel sums those of the taps that fall together. That is 4/9 of the multiplications, and half the time on CPU. The kernels are summed
// once, when the graph is opened.
func (b *builder) UpsampleConv2D(x, weight, bias op.Value) (op.Value, error) {
	v, err := operands(op.Float32, x, weight)
	if err != nil {
		return nil, err
	}
	w := v[1]
	if len(w.dims) != 4 || !slices.Equal(w.dims[2:], []int{3, 3}) || !known(w.dims...) {
		return nil, fmt.Errorf("weight %v: needs a 3×3 kernel", w.dims)
	}
	if w.half || b.ownOps { // GPUs have kernels of their own for whole convolutions, and package ort's saves as many multiplications
		doubled, err := b.Upsample2x(x)
		if err != nil {
			return nil, err
		}
		return b.Conv2D(doubled, weight, bias, 1, 1)
	}
	var phases []*value
	kernels := b.node("Reshape", op.Float32, []int{w.dims[0] * w.dims[1], 9}, nil, w, b.ints(-1, 9))
	for row := range 2 {
		for column := range 2 {
			sum := b.node("MatMul", op.Float32, []int{w.dims[0] * w.dims[1], 4}, nil, kernels, b.sums(row, column))
			dims := []int{w.dims[0], w.dims[1], 2, 2}
			kernel := b.node("Reshape", op.Float32, dims, nil, sum, b.ints(dims...))
			phase, err := b.conv2D(v[0], kernel, bias, 1, [4]int{1 - row, 1 - column, row, column})
			if err != nil {
				return nil, err
			}
			phases = append(phases, phase)
		}
	}
	dims := slices.Clone(phases[0].dims)
	dims[1] *= 4
	stacked := b.node("Concat", op.Float32, dims, attrs{"axis": 1}, phases...)
	dims = slices.Clone(phases[0].dims)
	for i := range 2 {
		if dims[2+i] != unknown {
			dims[2+i] *= 2
		}
	}
	return b.node("DepthToSpace", op.Float32, dims, attrs{"blocksize": 2, "mode": "DCR"}, stacked), nil
}

// sums [9, 4] adds up, for a phase, the taps of a 3×3 kernel to those of its 2×2 one.
func (b *builder) sums(row, column int) *value {
	m := make([]float32, 9*4)
	for i, rows := range taps[row] {
		for j, columns := range taps[column] {
			for _, r := range rows {
				for _, c := range columns {
					m[(3*r+c)*4+2*i+j] = 1
				}
			}
		}
	}
	return b.constant(protoFloat, op.Float32, floatData(m), []int{9, 4})
}

package onnx

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

// Shapes are known as far as the model's declarations say; unknown is a dimension that only a run decides.
const unknown = -1

func known(dims ...int) bool { return !slices.Contains(dims, unknown) }

// agree reports whether two dimensions can be equal.
func agree(a, b int) bool { return a == b || a == unknown || b == unknown }

// axisOf makes axis non-negative.
func axisOf(axis, rank int) (int, error) {
	if axis < -rank || axis >= rank {
		return 0, fmt.Errorf("axis %d of a tensor of rank %d", axis, rank)
	}
	return (axis + rank) % rank, nil
}

// broadcast is NumPy's rule. A dimension 1 against an unknown one is unknown.
func broadcast(a, b []int) ([]int, error) {
	if len(a) < len(b) {
		a, b = b, a
	}
	dims := slices.Clone(a)
	for i, d := range b {
		j := len(a) - len(b) + i
		switch {
		case d == 1 || d == dims[j]:
		case dims[j] == 1:
			dims[j] = d
		case dims[j] == unknown:
			dims[j] = d
		case d != unknown:
			return nil, fmt.Errorf("dims %v and %v do not broadcast", a, b)
		}
	}
	return dims, nil
}

func matMulDims(a, b []int) ([]int, error) {
	if len(a) < 2 || len(b) < 2 || !agree(a[len(a)-1], b[len(b)-2]) {
		return nil, fmt.Errorf("matrices of dims %v and %v do not multiply", a, b)
	}
	lead, err := broadcast(a[:len(a)-2], b[:len(b)-2])
	if err != nil {
		return nil, fmt.Errorf("matrices of dims %v and %v: %w", a, b, err)
	}
	return append(lead, a[len(a)-2], b[len(b)-1]), nil
}

func conv2DDims(x, weight, bias []int, stride int, pads [4]int) ([]int, error) {
	if len(x) != 4 || len(weight) != 4 || !agree(x[1], weight[1]) || (bias != nil && !slices.Equal(bias, weight[:1])) {
		return nil, fmt.Errorf("input %v does not fit weight %v and bias %v", x, weight, bias)
	}
	if stride < 1 || slices.Min(pads[:]) < 0 {
		return nil, fmt.Errorf("stride %d, padding %v", stride, pads)
	}
	dims := []int{x[0], weight[0], unknown, unknown}
	for i := 2; i < 4; i++ {
		if x[i] == unknown {
			continue
		}
		padded := x[i] + pads[i-2] + pads[i]
		if dims[i] = (padded-weight[i])/stride + 1; padded < weight[i] {
			return nil, fmt.Errorf("input %v is smaller than kernel %v", x, weight)
		}
	}
	return dims, nil
}

// reshapeDims resolves what is known of a reshape of x: 0 copies from source, one -1 is inferred.
func reshapeDims(x, source, target []int) ([]int, error) {
	dims, inferred := slices.Clone(target), -1
	for i, d := range target {
		switch {
		case d == 0 && i >= len(source):
			return nil, fmt.Errorf("dim %d of %v copies from a tensor of dims %v", i, target, source)
		case d == 0:
			dims[i] = source[i]
		case d == -1 && inferred >= 0, d < -1:
			return nil, fmt.Errorf("reshape to %v: only one dim may be -1", target)
		case d == -1:
			inferred = i
		}
	}
	if !known(x...) {
		return dims, nil
	}
	size, rest := op.Size(x), 1
	for i, d := range dims {
		if i != inferred {
			rest *= d
		}
	}
	if inferred >= 0 && known(slices.Delete(slices.Clone(dims), inferred, inferred+1)...) {
		if rest == 0 || size%rest != 0 {
			return nil, fmt.Errorf("reshape of %v to %v", x, target)
		}
		dims[inferred] = size / rest
	} else if inferred < 0 && known(dims...) && rest != size {
		return nil, fmt.Errorf("reshape of %v to %v", x, dims)
	}
	return dims, nil
}

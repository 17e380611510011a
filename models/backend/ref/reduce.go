package ref

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"likeness/models/op"
)

// normalise writes (x-mean)/√(variance+eps) to out, with the population's variance.
func normalise(out, x []float32, eps float64) {
	var mean, variance float64
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(len(x))
	}
	scale := 1 / math.Sqrt(variance+eps)
	for i, v := range x {
		out[i] = float32((float64(v) - mean) * scale)
	}
}

// affine multiplies by weight and adds bias, one of each for step elements in turn.
func affine(x, weight, bias []float32, step int) {
	for i := range x {
		c := i / step % len(weight)
		x[i] = x[i]*weight[c] + bias[c]
	}
}

func (b *builder) GroupNorm(x op.Value, groups int, weight, bias op.Value, eps float64) (op.Value, error) {
	t, err := operands(op.Float32, x, weight, bias)
	if err != nil {
		return nil, err
	}
	in, w := t[0].dims, t[1].dims
	if len(in) < 2 || groups < 1 || in[1]%groups != 0 || !slices.Equal(w, in[1:2]) || !slices.Equal(t[2].dims, w) {
		return nil, fmt.Errorf("%d groups of dims %v with weight %v and bias %v", groups, in, w, t[2].dims)
	}
	out, n := floats(in), op.Size(in[1:])/groups
	for i := 0; i < len(out.f); i += n {
		normalise(out.f[i:i+n], t[0].f[i:i+n], eps)
	}
	affine(out.f, t[1].f, t[2].f, op.Size(in[2:]))
	return out, nil
}

func (b *builder) LayerNorm(x, weight, bias op.Value, eps float64) (op.Value, error) {
	t, err := operands(op.Float32, x, weight, bias)
	if err != nil {
		return nil, err
	}
	in, w := t[0].dims, t[1].dims
	if len(in) < 1 || !slices.Equal(w, in[len(in)-1:]) || !slices.Equal(t[2].dims, w) {
		return nil, fmt.Errorf("of dims %v with weight %v and bias %v", in, w, t[2].dims)
	}
	out, n := floats(in), w[0]
	for i := 0; i < len(out.f); i += n {
		normalise(out.f[i:i+n], t[0].f[i:i+n], eps)
	}
	affine(out.f, t[1].f, t[2].f, 1)
	return out, nil
}

// lines calls f for every line of t along axis: its elements are at start, start+step, … n times.
func (t *tensor) lines(axis int, f func(start, step, n int)) {
	n, step := t.dims[axis], op.Size(t.dims[axis+1:])
	for outer := range op.Size(t.dims[:axis]) {
		for inner := range step {
			f(outer*n*step+inner, step, n)
		}
	}
}

func (b *builder) Softmax(x op.Value, axis int) (op.Value, error) {
	ts, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	t := ts[0]
	if axis, err = t.axis(axis); err != nil {
		return nil, err
	}
	out := floats(t.dims)
	t.lines(axis, func(start, step, n int) {
		top, sum := math.Inf(-1), 0.0
		for i := range n {
			top = max(top, float64(t.f[start+i*step]))
		}
		for i := range n {
			sum += math.Exp(float64(t.f[start+i*step]) - top)
		}
		for i := range n {
			out.f[start+i*step] = float32(math.Exp(float64(t.f[start+i*step])-top) / sum)
		}
	})
	return out, nil
}

func (b *builder) ArgMax(x op.Value, axis int) (op.Value, error) {
	ts, err := operands(op.Float32, x)
	if err != nil {
		return nil, err
	}
	t := ts[0]
	if axis, err = t.axis(axis); err != nil {
		return nil, err
	}
	if t.dims[axis] == 0 {
		return nil, fmt.Errorf("of dims %v", t.dims)
	}
	out := &tensor{dims: slices.Delete(slices.Clone(t.dims), axis, axis+1), dt: op.Int64}
	t.lines(axis, func(start, step, n int) {
		best := 0
		for i := range n {
			if t.f[start+i*step] > t.f[start+best*step] {
				best = i
			}
		}
		out.i = append(out.i, int64(best))
	})
	return out, nil
}

// reduce prepares a reduction: the kept dims, and which element of the result each of t's goes to.
func reduce(x op.Value, axes []int) (t *tensor, dims, to []int, err error) {
	ts, err := operands(op.Float32, x)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(axes) == 0 {
		return nil, nil, nil, errors.New("no axes")
	}
	dims = slices.Clone(ts[0].dims)
	for _, a := range axes {
		if a, err = ts[0].axis(a); err != nil {
			return nil, nil, nil, err
		}
		dims[a] = 1
	}
	return ts[0], dims, spread(dims, ts[0].dims), nil
}

func (b *builder) ReduceMean(x op.Value, axes ...int) (op.Value, error) {
	t, dims, to, err := reduce(x, axes)
	if err != nil {
		return nil, err
	}
	out, sums := floats(dims), make([]float64, op.Size(dims))
	for i, v := range t.f {
		sums[to[i]] += float64(v) * float64(len(sums)) / float64(len(t.f))
	}
	store(out.f, sums)
	return out, nil
}

func (b *builder) ReduceMax(x op.Value, axes ...int) (op.Value, error) {
	t, dims, to, err := reduce(x, axes)
	if err != nil {
		return nil, err
	}
	out := floats(dims)
	for i := range out.f {
		out.f[i] = float32(math.Inf(-1))
	}
	for i, v := range t.f {
		out.f[to[i]] = max(out.f[to[i]], v)
	}
	return out, nil
}

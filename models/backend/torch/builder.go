//go:build torch

package torch

// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"runtime/cgo"
	"slices"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

// Element types as libtorch numbers them.
const (
	kindInt64    = 4
	kindFloat    = 6
	kindBool     = 11
	kindBFloat16 = 15
)

// tensor is the Builder's value.
type tensor struct {
	c    lib.Ctensor
	dims []int
	kind int
}

// builder runs a model as it is built. Everything it makes lives until the call ends.
type builder struct {
	engine    *Engine
	inputs    map[string]op.Array
	params    []*Params
	gradients bool
	arena     []lib.Ctensor
	cache     map[string]*tensor      // inputs
	casts     map[lib.Ctensor]*tensor // weights in the precision of products
	trainable bool                    // a weight that is trained was read
	blocks    []cgo.Handle            // to compute again
}

func (b *builder) free() {
	for _, t := range b.arena {
		lib.AtFree(t)
	}
	b.arena = nil
}

// backward differentiates loss. What its graph does not hold itself is freed first, and what it holds as it is used, so that gradients take
// the place of activations. Nothing that b has made can be used afterwards.
func (b *builder) backward(loss *tensor) error {
	b.arena = slices.DeleteFunc(b.arena, func(c lib.Ctensor) bool {
		if c != loss.c {
			lib.AtFree(c)
		}
		return c != loss.c
	})
	lib.AtBackward(loss.c, 0, 0)
	if msg := lib.GetAndResetLastErr(); msg != nil {
		defer C.free(unsafe.Pointer(msg))
		return fmt.Errorf("backward: %s", firstLine(C.GoString((*C.char)(unsafe.Pointer(msg)))))
	}
	return nil
}

// call runs an operation that leaves its result in the engine's slot.
func (b *builder) call(name string, f func(out *lib.Ctensor)) (*tensor, error) {
	*b.engine.slot = nil
	f(b.engine.slot)
	c := *b.engine.slot
	if c == nil {
		return nil, lastError(name)
	}
	b.arena = append(b.arena, c)
	return describe(c), nil
}

func describe(c lib.Ctensor) *tensor {
	var shape [8]int64
	rank := lib.AtDim(c)
	lib.AtShape(c, unsafe.Pointer(&shape[0]))
	t := &tensor{c: c, dims: make([]int, rank), kind: int(lib.AtScalarType(c))}
	for i := range t.dims {
		t.dims[i] = int(shape[i])
	}
	return t
}

// read copies a tensor to Go's memory; Bool becomes Int64.
func (b *builder) read(t *tensor) (op.Array, error) {
	want := kindFloat
	if t.kind == kindInt64 || t.kind == kindBool {
		want = kindInt64
	}
	t, err := b.to(t, want)
	if err != nil {
		return op.Array{}, err
	}
	if t, err = b.call("contiguous", func(out *lib.Ctensor) { lib.AtgContiguous(out, t.c) }); err != nil {
		return op.Array{}, err
	}
	n := op.Size(t.dims)
	if n == 0 {
		return op.Array{Dims: t.dims}, nil
	}
	data := lib.AtDataPtr(t.c)
	if want == kindInt64 {
		return op.Ints(append([]int64(nil), unsafe.Slice((*int64)(data), n)...), t.dims...), nil
	}
	return op.Floats(append([]float32(nil), unsafe.Slice((*float32)(data), n)...), t.dims...), nil
}

func (b *builder) to(t *tensor, kind int) (*tensor, error) {
	if t.kind == kind {
		return t, nil
	}
	return b.call("cast", func(out *lib.Ctensor) { lib.AtgToDtype(out, t.c, int32(kind), 0, 0) })
}

// product returns t in the precision of products. Weights are cast once in a call.
func (b *builder) product(v op.Value) (*tensor, error) {
	t := v.(*tensor)
	if b.engine.cfg.Compute == Float32 || t.kind != kindFloat {
		return t, nil
	}
	if cast, ok := b.casts[t.c]; ok {
		return cast, nil
	}
	cast, err := b.half(t)
	if err == nil {
		b.casts[t.c] = cast
	}
	return cast, err
}

func (b *builder) products(vs ...op.Value) ([]*tensor, error) {
	out := make([]*tensor, len(vs))
	for i, v := range vs {
		if v == nil {
			out[i] = &tensor{}
			continue
		}
		var err error
		if out[i], err = b.product(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// operands are tensors none of which may be left out.
func operands(vs ...op.Value) ([]*tensor, error) {
	out := make([]*tensor, len(vs))
	for i, v := range vs {
		t, ok := v.(*tensor)
		if !ok {
			return nil, errors.New("an operand is missing")
		}
		out[i] = t
	}
	return out, nil
}

// full returns t in float32, for functions that lose too much in fewer bits.
func (b *builder) full(v op.Value) (*tensor, error) {
	t := v.(*tensor)
	if t.kind != kindBFloat16 {
		return t, nil
	}
	return b.to(t, kindFloat)
}

func (b *builder) Input(name string, dt op.DType, dims ...int) (op.Value, error) {
	if t, ok := b.cache[name]; ok {
		return t, nil
	}
	a, ok := b.inputs[name]
	if !ok {
		return nil, fmt.Errorf("no input %q was given", name)
	}
	if (a.I64 != nil) != (dt == op.Int64) || !fits(a.Dims, dims) {
		return nil, fmt.Errorf("input %s has dims %v, want %s %v", name, a.Dims, dt, dims)
	}
	c, err := newTensor(a)
	if err != nil {
		return nil, fmt.Errorf("input %s: %w", name, err)
	}
	b.arena = append(b.arena, c)
	b.cache[name] = describe(c)
	return b.cache[name], nil
}

// fits tells whether dims are those wanted, where -1 stands for any.
func fits(dims, want []int) bool {
	if len(dims) != len(want) {
		return false
	}
	for i, d := range want {
		if d != -1 && d != dims[i] {
			return false
		}
	}
	return true
}

func (b *builder) Weight(name string, dims ...int) (op.Value, error) {
	for _, p := range b.params {
		t, ok := p.tensors[name]
		if !ok {
			continue
		}
		if !fits(t.dims, dims) || len(dims) != len(t.dims) {
			return nil, fmt.Errorf("weight %s has dims %v, want %v", name, t.dims, dims)
		}
		b.trainable = b.trainable || p.trainable
		return t, nil
	}
	return nil, fmt.Errorf("missing weight %s", name)
}

func (b *builder) Const(v []float32, dims ...int) (op.Value, error) {
	c, err := newTensor(op.Floats(v, dims...))
	if err != nil {
		return nil, err
	}
	b.arena = append(b.arena, c)
	return describe(c), nil
}

// axis resolves a negative axis.
func axis(t *tensor, i int) (int64, error) {
	n := len(t.dims)
	if i < -n || i >= n {
		return 0, fmt.Errorf("axis %d of a tensor with dims %v", i, t.dims)
	}
	return int64((i + n) % n), nil
}

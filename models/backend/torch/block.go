//go:build torch

package torch

/*
#include <stdlib.h>
#include "kernels.h"
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

// block is a part of a model that the backward pass computes again.
type block struct {
	builder *builder
	f       func(xs []op.Value) (op.Value, error)
	present []int // which of its inputs are there
	inputs  int   // all of them
}

// Block implements op.Blocks. A block that reads nothing that needs a gradient is computed once.
func (b *builder) Block(f func(xs []op.Value) (op.Value, error), xs []op.Value, recompute bool) (op.Value, error) {
	if !b.gradients || !recompute {
		y, _, err := b.within(f, xs)
		return b.own(y, err)
	}
	at, needed, inputs := &block{builder: b, f: f, inputs: len(xs)}, false, make([]unsafe.Pointer, 0, len(xs)+1)
	for i, x := range xs {
		if t, ok := x.(*tensor); ok {
			at.present, inputs = append(at.present, i), append(inputs, pointer(t))
			needed = needed || C.likeness_requires_grad(pointer(t)) != 0
		}
	}
	before := lib.AtGradSetEnabled(0)
	y, trainable, err := b.within(f, xs)
	lib.AtGradSetEnabled(before)
	if v, err := b.own(y, err); err != nil || !needed && !trainable {
		return v, err
	}
	handle := cgo.NewHandle(at)
	b.blocks = append(b.blocks, handle)
	return value(b.kernel("Block", func(out *unsafe.Pointer) *C.char {
		return C.likeness_checkpoint(out, pointer(y), unsafe.SliceData(inputs), C.int64_t(len(inputs)), C.uintptr_t(handle))
	}))
}

// own makes what within returned one of b's tensors.
func (b *builder) own(y *tensor, err error) (op.Value, error) {
	if err == nil {
		b.arena = append(b.arena, y.c)
	}
	return value(y, err)
}

// within runs a block with an arena and casts of its own, and frees all that it made but the result, which is the caller's. It also tells
// whether the block reads weights that are trained.
func (b *builder) within(f func(xs []op.Value) (op.Value, error), xs []op.Value) (y *tensor, trainable bool, err error) {
	outer := *b
	b.arena, b.trainable = nil, false
	b.cache, b.casts = map[string]*tensor{}, map[lib.Ctensor]*tensor{}
	defer func() {
		trainable = b.trainable
		b.free()
		b.arena, b.cache, b.casts, b.trainable = outer.arena, outer.cache, outer.casts, outer.trainable || trainable
	}()
	v, err := f(xs)
	if err != nil {
		return nil, false, err
	}
	// A handle of its own: the result can be an input or a weight.
	if y, err = b.call("Block", func(out *lib.Ctensor) { lib.AtgAlias(out, v.(*tensor).c) }); err == nil {
		b.arena = b.arena[:len(b.arena)-1]
	}
	return y, false, err
}

//export likenessRecompute
func likenessRecompute(handle C.uintptr_t, inputs *unsafe.Pointer, out *unsafe.Pointer) *C.char {
	at := cgo.Handle(handle).Value().(*block)
	xs := make([]op.Value, at.inputs)
	for i, p := range unsafe.Slice(inputs, len(at.present)) {
		xs[at.present[i]] = describe(lib.Ctensor(p))
	}
	y, _, err := at.builder.within(at.f, xs)
	if err != nil {
		return C.CString(err.Error())
	}
	*out = pointer(y)
	return nil
}

// end frees all that b has made.
func (b *builder) end() {
	b.free()
	for _, handle := range b.blocks {
		handle.Delete()
	}
	b.blocks = nil
}

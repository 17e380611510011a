//go:build torch

package torch

/*
#cgo CXXFLAGS: -std=c++17 -O3
#include <stdlib.h>
#include "kernels.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// kernel runs a function of kernels.h.
func (b *builder) kernel(name string, f func(out *unsafe.Pointer) *C.char) (*tensor, error) {
	slot := (*unsafe.Pointer)(unsafe.Pointer(b.engine.slot))
	if msg := f(slot); msg != nil {
		defer C.free(unsafe.Pointer(msg))
		return nil, fmt.Errorf("%s: %s", name, firstLine(C.GoString(msg)))
	}
	c := *b.engine.slot
	b.arena = append(b.arena, c)
	return describe(c), nil
}

func pointer(t *tensor) unsafe.Pointer { return unsafe.Pointer(t.c) }

// groupNorm is GroupNorm of a bfloat16 image.
func (b *builder) groupNorm(x *tensor, groups int, weight, bias *tensor, eps float64) (*tensor, error) {
	return b.kernel("GroupNorm", func(out *unsafe.Pointer) *C.char {
		return C.likeness_group_norm(out, pointer(x), pointer(weight), pointer(bias), C.int64_t(groups), C.double(eps))
	})
}

// channelsLast lays an image out so that its channels are neighbours in memory, the layout that bfloat16 convolutions are fast in; what
// follows keeps it. In float32 the given layout stays.
func (b *builder) channelsLast(x *tensor) (*tensor, error) {
	if x.kind != kindBFloat16 {
		return x, nil
	}
	return b.kernel("channels last", func(out *unsafe.Pointer) *C.char { return C.likeness_channels_last(out, pointer(x)) })
}

// half casts to bfloat16, images and kernels of convolutions to the layout that these are fast in.
func (b *builder) half(x *tensor) (*tensor, error) {
	return b.kernel("cast", func(out *unsafe.Pointer) *C.char { return C.likeness_half(out, pointer(x)) })
}

// conv3x3 is Conv2D of a float32 image with stride 1 and padding 1; bias may hold no tensor.
func (b *builder) conv3x3(x, weight, bias *tensor) (*tensor, error) {
	return b.kernel("Conv2D", func(out *unsafe.Pointer) *C.char {
		return C.likeness_conv3x3(out, pointer(x), pointer(weight), pointer(bias))
	})
}

// attention is scaled dot-product attention of [B, heads, N, d]; mask may hold no tensor.
func (b *builder) attention(query, key, value, mask *tensor) (*tensor, error) {
	return b.kernel("Attention", func(out *unsafe.Pointer) *C.char {
		return C.likeness_attention(out, pointer(query), pointer(key), pointer(value), pointer(mask))
	})
}

func (p *Params) forgetGradients() {
	for _, t := range p.tensors {
		C.likeness_forget_gradient(pointer(t))
	}
}

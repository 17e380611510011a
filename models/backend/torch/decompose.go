//go:build torch

package torch

// #include <stdlib.h>
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

// SVD is the thin singular value decomposition a = u · diag(values) · v of a matrix [m, n]: u [m, k], values [k], falling, and v [k, n],
// where k is the smaller of m and n.
func (e *Engine) SVD(a op.Array) (u, values, v op.Array, err error) {
	if len(a.Dims) != 2 || a.I64 != nil {
		return u, values, v, fmt.Errorf("singular values of dims %v: want a matrix of floats", a.Dims)
	}
	err = e.do(func() error {
		before := lib.AtGradSetEnabled(0)
		defer lib.AtGradSetEnabled(before)
		b := &builder{engine: e}
		defer b.free()
		in, err := newTensor(a)
		if err != nil {
			return err
		}
		b.arena = append(b.arena, in)
		out := (*[3]lib.Ctensor)(C.calloc(3, C.size_t(unsafe.Sizeof(uintptr(0)))))
		defer C.free(unsafe.Pointer(out))
		lib.AtgSvd(&out[0], in, 1, 1)
		if out[0] == nil {
			return lastError("singular values")
		}
		b.arena = append(b.arena, out[:]...)
		right, err := b.call("transpose", func(to *lib.Ctensor) { lib.AtgTranspose(to, out[2], 0, 1) })
		if err != nil {
			return err
		}
		var errs [3]error
		u, errs[0] = b.read(describe(out[0]))
		values, errs[1] = b.read(describe(out[1]))
		v, errs[2] = b.read(right)
		return errors.Join(errs[:]...)
	})
	return u, values, v, err
}

//go:build torch

package torch

/*
#cgo LDFLAGS: -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>

// A training step frees and takes the same gigabytes again: glibc must keep them.
static void keep_memory(void) {
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_TOP_PAD, 64 << 20);
}

// The number of threads belongs to the calling thread. OpenMP comes with libtorch, so its name is looked up.
static int set_threads(int n) {
	void (*set)(int) = (void (*)(int))dlsym(RTLD_DEFAULT, "omp_set_num_threads");
	if (set == NULL) return 0;
	set(n);
	return 1;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

// Precision is the type that matrix products and convolutions are computed in. Weights, norms' statistics and losses are always float32.
type Precision int

// The precisions.
const (
	Float32  Precision = iota
	BFloat16           // several times faster where the processor has AMX, several times slower where it has no instructions for it
)

// Fastest is the precision in which this processor is the fastest.
func Fastest() Precision {
	if cpuid.CPU.Supports(cpuid.AMXBF16) {
		return BFloat16
	}
	return Float32
}

// Config says how libtorch computes.
type Config struct {
	Threads int // 0: one for each core
	Compute Precision
}

// Engine owns libtorch on one operating system thread, which its methods hand their work to: gradient mode belongs to a thread.
// All methods of the package are safe for concurrent use and run one after another.
type Engine struct {
	cfg   Config
	slot  *lib.Ctensor // where libtorch puts a result
	work  chan func()
	ended chan struct{}
}

// New starts an engine.
func New(cfg Config) (*Engine, error) {
	if cfg.Threads < 0 {
		return nil, fmt.Errorf("%d threads: must not be negative", cfg.Threads)
	}
	e := &Engine{cfg: cfg, work: make(chan func()), ended: make(chan struct{})}
	ready := make(chan error)
	go e.loop(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	return e, nil
}

// Compute is the precision of products.
func (e *Engine) Compute() Precision { return e.cfg.Compute }

func (e *Engine) loop(ready chan<- error) {
	runtime.LockOSThread()
	defer close(e.ended)
	C.keep_memory()
	if n := e.cfg.Threads; n > 0 && C.set_threads(C.int(n)) == 0 {
		ready <- errors.New("libtorch has no OpenMP: the number of threads cannot be set")
		return
	}
	e.slot = (*lib.Ctensor)(C.malloc(C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(e.slot))
	ready <- nil
	for f := range e.work {
		f()
	}
}

// Close ends the engine. It must not be used afterwards.
func (e *Engine) Close() {
	close(e.work)
	<-e.ended
}

// do runs f on libtorch's thread.
func (e *Engine) do(f func() error) (err error) {
	done := make(chan struct{})
	e.work <- func() {
		defer close(done)
		err = f()
	}
	<-done
	return err
}

// lastError returns what libtorch reported.
func lastError(name string) error {
	msg := lib.GetAndResetLastErr()
	if msg == nil {
		return fmt.Errorf("%s: libtorch returned nothing", name)
	}
	defer C.free(unsafe.Pointer(msg))
	return fmt.Errorf("%s: %s", name, firstLine(C.GoString((*C.char)(unsafe.Pointer(msg)))))
}

func firstLine(s string) string {
	for i, c := range s {
		if c == '\n' {
			return s[:i]
		}
	}
	return s
}

// newTensor copies an array into libtorch's memory.
func newTensor(a op.Array) (lib.Ctensor, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	dims := make([]int64, len(a.Dims), len(a.Dims)+1)
	for i, d := range a.Dims {
		dims[i] = int64(d)
	}
	var data unsafe.Pointer
	size, kind := uint(4), kindFloat
	if a.I64 != nil {
		size, kind, data = 8, kindInt64, unsafe.Pointer(unsafe.SliceData(a.I64))
	} else {
		data = unsafe.Pointer(unsafe.SliceData(a.F32))
	}
	rank := uint(len(dims))
	t := lib.AtTensorOfData(data, dims[:cap(dims)], rank, size, kind)
	if t == nil {
		return nil, lastError("tensor of data")
	}
	return t, nil
}

// Run builds the model without gradients and returns its outputs. Weights are looked up in params, in order.
func (e *Engine) Run(model op.Model, inputs map[string]op.Array, params ...*Params) (map[string]op.Array, error) {
	return e.build(model, inputs, params, false)
}

// Backward builds the model, differentiates its scalar output "loss" and adds the gradients to those of the trainable params.
// It returns all outputs.
func (e *Engine) Backward(model op.Model, inputs map[string]op.Array, params ...*Params) (map[string]op.Array, error) {
	return e.build(model, inputs, params, true)
}

func (e *Engine) build(model op.Model, inputs map[string]op.Array, params []*Params, gradients bool) (out map[string]op.Array, err error) {
	err = e.do(func() error {
		before := lib.AtGradSetEnabled(boolInt(gradients))
		defer lib.AtGradSetEnabled(before)
		b := &builder{engine: e, inputs: inputs, params: params, gradients: gradients, cache: map[string]*tensor{}, casts: map[lib.Ctensor]*tensor{}}
		defer b.end()
		values, err := op.Build(b, model)
		if err != nil {
			return err
		}
		out = map[string]op.Array{}
		for name, v := range values {
			if out[name], err = b.read(v.(*tensor)); err != nil {
				return fmt.Errorf("output %s: %w", name, err)
			}
		}
		if !gradients {
			return nil
		}
		loss, ok := values["loss"].(*tensor)
		if !ok {
			return errors.New("the model has no output named loss")
		}
		if op.Size(loss.dims) != 1 {
			return fmt.Errorf("loss has dims %v, want one value", loss.dims)
		}
		return b.backward(loss)
	})
	return out, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

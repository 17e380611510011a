//go:build torch

package torch

/*
#cgo CFLAGS: -O3
#include "adamw.h"
*/
import "C"

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"

	"likeness/models/op"
)

// AdamWConfig holds the constants of AdamW.
type AdamWConfig struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
}

// AdamW is Adam with decoupled weight decay (Loshchilov & Hutter 2019). It works on the weights in place: one pass over memory.
// Weights of one dimension (biases, norms) do not decay.
type AdamW struct {
	cfg    AdamWConfig
	params *Params
	step   float64
	first  map[string][]float32 // averages of the gradient
	second map[string][]float32 // and of its square
}

// NewAdamW prepares an optimizer of trainable params.
func (e *Engine) NewAdamW(p *Params, cfg AdamWConfig) (*AdamW, error) {
	if !p.trainable {
		return nil, fmt.Errorf("an optimizer of weights that are not trainable")
	}
	a := &AdamW{cfg: cfg, params: p, first: map[string][]float32{}, second: map[string][]float32{}}
	for name, t := range p.tensors {
		a.first[name], a.second[name] = make([]float32, op.Size(t.dims)), make([]float32, op.Size(t.dims))
	}
	return a, nil
}

// Optimizer moves weights along their gradients.
type Optimizer interface {
	// Step scales the gradients so that their norm is clipNorm at most (0: as they are), updates the weights and forgets the gradients.
	// It returns the norm before clipping.
	Step(lr, clipNorm float64) (norm float64, err error)
	// Arrays is the optimizer's state, to resume from, where it lies: it changes with the next step. Set restores it.
	Arrays() (map[string]op.Array, error)
	Set(state map[string]op.Array) error
}

// Step is Optimizer's.
func (a *AdamW) Step(lr, clipNorm float64) (norm float64, err error) {
	return a.params.step(clipNorm, func() { a.step++ }, func(name string, g []float32, scale float32) { a.update(name, g, lr, scale) })
}

// step is an Optimizer's: it calls begin once and update for each weight that has a gradient, with what the gradient is to be scaled by.
// Nothing is called where the gradients are no numbers.
func (p *Params) step(clipNorm float64, begin func(), update func(name string, gradient []float32, scale float32)) (norm float64, err error) {
	err = p.engine.do(func() error {
		// In-place changes of leaves are no part of a graph.
		before := lib.AtGradSetEnabled(0)
		defer lib.AtGradSetEnabled(before)
		var squares float64
		if err := p.eachGradient(func(_ string, g []float32) { squares += sumSquares(g) }); err != nil {
			return err
		}
		if norm = math.Sqrt(squares); math.IsNaN(norm) || math.IsInf(norm, 0) {
			return fmt.Errorf("the gradient's norm is %g: the weights are left as they were", norm)
		}
		scale := 1.0
		if clipNorm > 0 && norm > clipNorm {
			scale = clipNorm / norm
		}
		begin()
		if err := p.eachGradient(func(name string, g []float32) { update(name, g, float32(scale)) }); err != nil {
			return err
		}
		p.forgetGradients()
		return nil
	})
	return norm, err
}

func sumSquares(xs []float32) float64 {
	var parts [2]float64
	halves(len(xs), 1, func(part, from, to int) {
		parts[part] = float64(C.likeness_sum_squares(cFloats(xs[from:]), C.int64_t(to-from)))
	})
	return parts[0] + parts[1]
}

// halves splits a range of n parts, each of the size, over two goroutines if it is long.
func halves(n, size int, f func(part, from, to int)) {
	if n < 2 || n*size < 1<<15 {
		f(0, 0, n)
		return
	}
	var wait sync.WaitGroup
	wait.Go(func() { f(0, 0, n/2) })
	f(1, n/2, n)
	wait.Wait()
}

func (a *AdamW) update(name string, gradient []float32, lr float64, scale float32) {
	weights, first, second := a.params.values(name), a.first[name], a.second[name]
	step := C.struct_likeness_adamw_step{
		scale: C.float(scale), rate1: C.float(1 - a.cfg.Beta1), rate2: C.float(1 - a.cfg.Beta2), eps: C.float(a.cfg.Eps), keep: 1,
		size: C.float(lr / (1 - math.Pow(a.cfg.Beta1, a.step))),
		root: C.float(1 / math.Sqrt(1-math.Pow(a.cfg.Beta2, a.step))),
	}
	if len(a.params.tensors[name].dims) > 1 {
		step.keep = C.float(1 - lr*a.cfg.WeightDecay)
	}
	halves(len(weights), 1, func(_, from, to int) {
		C.likeness_adamw(cFloats(weights[from:]), cFloats(gradient[from:]), cFloats(first[from:]), cFloats(second[from:]), C.int64_t(to-from), step)
	})
}

func cFloats(xs []float32) *C.float { return (*C.float)(unsafe.SliceData(xs)) }

const (
	firstPrefix  = "first/"
	secondPrefix = "second/"
	stepName     = "step"
)

// Arrays is Optimizer's.
func (a *AdamW) Arrays() (map[string]op.Array, error) {
	out := map[string]op.Array{stepName: op.Floats([]float32{float32(a.step)}, 1)}
	err := a.params.engine.do(func() error {
		for name, t := range a.params.tensors {
			out[firstPrefix+name], out[secondPrefix+name] = op.Floats(a.first[name], t.dims...), op.Floats(a.second[name], t.dims...)
		}
		return nil
	})
	return out, err
}

// Set is Optimizer's.
func (a *AdamW) Set(state map[string]op.Array) error {
	if len(state) != 1+2*len(a.first) || len(state[stepName].F32) != 1 {
		return fmt.Errorf("optimizer state of %d tensors, want %d", len(state), 1+2*len(a.first))
	}
	for name, s := range state {
		rest, first := strings.CutPrefix(name, firstPrefix)
		into := a.first[rest]
		if !first {
			rest = strings.TrimPrefix(name, secondPrefix)
			into = a.second[rest]
		}
		if name != stepName && (into == nil || len(into) != len(s.F32)) {
			return fmt.Errorf("optimizer state %s has dims %v", name, s.Dims)
		}
	}
	return a.params.engine.do(func() error {
		for name := range a.first {
			copy(a.first[name], state[firstPrefix+name].F32)
			copy(a.second[name], state[secondPrefix+name].F32)
		}
		a.step = float64(state[stepName].F32[0])
		return nil
	})
}

// EMA is an exponential moving average of weights.
type EMA struct {
	source, average *Params
}

// NewEMA starts at the present weights.
func (e *Engine) NewEMA(p *Params) (*EMA, error) {
	weights, err := p.Arrays()
	if err != nil {
		return nil, err
	}
	average, err := e.NewParams(weights, false)
	if err != nil {
		return nil, err
	}
	return &EMA{p, average}, nil
}

// Update moves the average towards the weights by 1 - decay.
func (m *EMA) Update(decay float64) error {
	by := C.float(1 - decay)
	return m.source.engine.do(func() error {
		for _, name := range m.source.names {
			to, from := m.average.values(name), m.source.values(name)
			halves(len(to), 1, func(_, start, end int) {
				C.likeness_approach(cFloats(to[start:]), cFloats(from[start:]), C.int64_t(end-start), by)
			})
		}
		return nil
	})
}

// Params returns the averaged weights, which belong to m.
func (m *EMA) Params() *Params { return m.average }

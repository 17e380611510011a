//go:build torch

package torch

/*
#cgo CFLAGS: -O3
#include "adafactor.h"
*/
import "C"

import (
	"fmt"
	"math"
	"strings"

	"likeness/models/op"
)

// AdafactorConfig holds the constants of Adafactor.
type AdafactorConfig struct {
	WeightDecay float64
}

// The constants of the paper's section 7: how fast averages forget, what is added to squares, and the root mean square that an update is cut
// to.
const (
	decayPower = -0.8
	leastMean  = 1e-30
	mostUpdate = 1
)

// Adafactor is an optimizer (Shazeer & Stern 2018) that keeps of a gradient's squares the means of rows and of columns, and no average
// of the gradient itself. A weight is a matrix of its first dimension and all others; those of one dimension have squares of their own, and
// do not decay. The learning rate is absolute.
type Adafactor struct {
	cfg     AdafactorConfig
	params  *Params
	step    float64
	rows    map[string][]float32 // means of squares; of one dimension: the squares
	columns map[string][]float32
}

// NewAdafactor prepares an optimizer of trainable params.
func (e *Engine) NewAdafactor(p *Params, cfg AdafactorConfig) (*Adafactor, error) {
	if !p.trainable {
		return nil, fmt.Errorf("an optimizer of weights that are not trainable")
	}
	a := &Adafactor{cfg: cfg, params: p, rows: map[string][]float32{}, columns: map[string][]float32{}}
	for name, t := range p.tensors {
		if a.rows[name] = make([]float32, t.dims[0]); len(t.dims) > 1 {
			a.columns[name] = make([]float32, op.Size(t.dims[1:]))
		}
	}
	return a, nil
}

// Step is AdamW's.
func (a *Adafactor) Step(lr, clipNorm float64) (norm float64, err error) {
	return a.params.step(clipNorm, func() { a.step++ }, func(name string, g []float32, scale float32) { a.update(name, g, lr, scale) })
}

// update moves one weight: its gradient over the root of what rows and columns say of the square, and that over its root mean square.
func (a *Adafactor) update(name string, g []float32, lr float64, scale float32) {
	rows, columns := len(a.rows[name]), max(len(a.columns[name]), 1)
	rate, square := 1-math.Pow(a.step, decayPower), float64(scale)*float64(scale)
	sums, width := a.squares(g, rows, columns)
	mean := 0.0
	for i, sum := range sums {
		a.rows[name][i] = float32(rate*float64(a.rows[name][i]) + (1-rate)*(sum*square/float64(columns)+leastMean))
		mean += float64(a.rows[name][i]) / float64(rows)
	}
	for j := range a.columns[name] {
		a.columns[name][j] = float32(rate*float64(a.columns[name][j]) + (1-rate)*(float64(width[j])*square/float64(rows)+leastMean))
	}
	byRow, byColumn, keep := make([]float32, rows), make([]float32, columns), 1-lr*a.cfg.WeightDecay
	if len(a.columns[name]) == 0 {
		byColumn[0], mean, keep = scale, 1, 1
	}
	for i, v := range a.rows[name] {
		byRow[i] = float32(math.Sqrt(mean / float64(v)))
	}
	for j, v := range a.columns[name] {
		byColumn[j] = float32(float64(scale) / math.Sqrt(float64(v)))
	}
	var parts [2]float64
	halves(rows, columns, func(part, from, to int) {
		parts[part] = float64(C.likeness_scaled_squares(cFloats(g[from*columns:]), C.int64_t(to-from), C.int64_t(columns), cFloats(byRow[from:]), cFloats(byColumn)))
	})
	size := lr / max(1, math.Sqrt((parts[0]+parts[1])/float64(len(g)))/mostUpdate)
	weights := a.params.values(name)
	halves(rows, columns, func(_, from, to int) {
		C.likeness_scaled_step(cFloats(weights[from*columns:]), cFloats(g[from*columns:]), C.int64_t(to-from), C.int64_t(columns), cFloats(byRow[from:]),
			cFloats(byColumn), C.float(size), C.float(keep))
	})
}

// squares are the sums of squares of a matrix's rows and columns.
func (a *Adafactor) squares(g []float32, rows, columns int) ([]float64, []float32) {
	byRow, byColumn := make([]float64, rows), [2][]float32{make([]float32, columns), make([]float32, columns)}
	halves(rows, columns, func(part, from, to int) {
		C.likeness_squares_by(cFloats(g[from*columns:]), C.int64_t(to-from), C.int64_t(columns), (*C.double)(&byRow[from]), cFloats(byColumn[part]))
	})
	for j, v := range byColumn[1] {
		byColumn[0][j] += v
	}
	return byRow, byColumn[0]
}

const (
	rowsPrefix    = "rows/"
	columnsPrefix = "columns/"
)

// Arrays is Optimizer's.
func (a *Adafactor) Arrays() (map[string]op.Array, error) {
	out := map[string]op.Array{stepName: op.Floats([]float32{float32(a.step)}, 1)}
	err := a.params.engine.do(func() error {
		for prefix, means := range map[string]map[string][]float32{rowsPrefix: a.rows, columnsPrefix: a.columns} {
			for name, v := range means {
				out[prefix+name] = op.Floats(v, len(v))
			}
		}
		return nil
	})
	return out, err
}

// Set is Optimizer's.
func (a *Adafactor) Set(state map[string]op.Array) error {
	if want := 1 + len(a.rows) + len(a.columns); len(state) != want || len(state[stepName].F32) != 1 {
		return fmt.Errorf("optimizer state of %d tensors, want %d", len(state), want)
	}
	for name, s := range state {
		rest, row := strings.CutPrefix(name, rowsPrefix)
		into := a.rows[rest]
		if !row {
			into = a.columns[strings.TrimPrefix(name, columnsPrefix)]
		}
		if name != stepName && (into == nil || len(into) != len(s.F32)) {
			return fmt.Errorf("optimizer state %s has dims %v", name, s.Dims)
		}
	}
	return a.params.engine.do(func() error {
		for name := range a.rows {
			copy(a.rows[name], state[rowsPrefix+name].F32)
			copy(a.columns[name], state[columnsPrefix+name].F32)
		}
		a.step = float64(state[stepName].F32[0])
		return nil
	})
}

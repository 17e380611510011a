//go:build torch

package tune

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/training/protocol"
)

// svdiff learns how far the singular values of the UNet's weights shift (Han et al. 2023, section 3.2). Those of one dimension, the norms',
// shift themselves at a thousandth of the rate; biases stay. The word is dreambooth's.
var svdiff = Method{
	Method: protocol.SVDiff,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		weights, err := b.weightsOf(func(name string) bool {
			path, ok := strings.CutSuffix(name, ".weight")
			return ok && (len(cfg.Targets) == 0 || isTarget(path, cfg.Targets))
		})
		if err != nil {
			return nil, err
		}
		nouns, _, err := b.nouns(cfg.Word, cfg.Class, 2)
		if err != nil {
			return nil, err
		}
		l := &learner{vectors: rareWord(nouns, cfg.Seed), weights: map[string]op.Array{}, spectra: map[string]*spectrum{}, rank: cfg.Rank,
			rate: cfg.LR, weightRate: cfg.LR / 1000, prior: priorPictures}
		for name, a := range weights {
			if len(a.Dims) == 1 {
				l.weights[name] = a
			} else {
				l.spectra[name] = &spectrum{weight: a}
			}
		}
		return l, nil
	},
}

// spectrum is a weight [out, n], where n is all dimensions but the first, as u · diag(values) · v.
type spectrum struct {
	weight       op.Array
	u, values, v op.Array // [out, k], [k] and [k, n]
}

// Prefixes of the names of a spectrum's shifts, which are learned, and of its parts.
const (
	shiftsPart = "shifts"
	uPart      = "spectra.u"
	valuesPart = "spectra.values"
	vPart      = "spectra.v"
)

// decompose finds the spectra, and tells how far it is.
func (t *task) decompose(tell func(string)) error {
	for i, name := range slices.Sorted(maps.Keys(t.learner.spectra)) {
		tell(fmt.Sprintf("singular values of weight %d of %d", i+1, len(t.learner.spectra)))
		s := t.learner.spectra[name]
		out := s.weight.Dims[0]
		var err error
		if s.u, s.values, s.v, err = t.base.engine.SVD(op.Floats(s.weight.F32, out, len(s.weight.F32)/out)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// factors are what the graph reads of the spectra, by name.
func (l *learner) factors() map[string]op.Array {
	all := map[string]op.Array{}
	for name, s := range l.spectra {
		all[uPart+"/"+name], all[valuesPart+"/"+name], all[vPart+"/"+name] = s.u, s.values, s.v
	}
	return all
}

// shifted are the weights whose singular values σ shift by δ, in a graph: w + u · diag(relu(σ+δ) − σ) · v, which is w itself where δ is zero.
func (l *learner) shifted(s op.Scope) op.Weights {
	if len(l.spectra) == 0 {
		return nil
	}
	return func(name string, dims ...int) (op.Tensor, bool) {
		d, ok := l.spectra[name]
		if !ok {
			return op.Tensor{}, false
		}
		k, zero := len(d.values.F32), s.Const([]float32{0}, 1)
		values := s.Component(valuesPart).Weight(name, k)
		moved := values.Add(s.Component(shiftsPart).Weight(name, k))
		change := zero.Less(moved).Where(moved, zero).Sub(values)
		u, v := s.Component(uPart).Weight(name, d.u.Dims...), s.Component(vPart).Weight(name, d.v.Dims...)
		return s.Component(checkpoint.UNet).Weight(name, dims...).Add(u.Mul(change).MatMul(v).Reshape(dims...)), true
	}
}

// changes are those of the singular values, for shifts.
func (s *spectrum) changes(shifts []float32) []float64 {
	changes := make([]float64, len(shifts))
	for i, value := range s.values.F32 {
		changes[i] = max(float64(value)+float64(shifts[i]), 0) - float64(value)
	}
	return changes
}

// strongest is the change of the weight that the largest changes of singular values make, at most rank of them, and the square of what
// the others make: the spectrum is of the change too, so that no change of the rank is nearer.
func (s *spectrum) strongest(changes []float64, rank int) (d concept.Delta, left float64) {
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := math.Abs(changes[a]), math.Abs(changes[b]); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	k, out, in := len(changes), s.u.Dims[0], s.v.Dims[1]
	d = concept.Delta{In: in, Out: out, Rank: min(rank, k)}
	for place, i := range order {
		if place >= d.Rank {
			left += changes[i] * changes[i]
			continue
		}
		root := math.Sqrt(math.Abs(changes[i]))
		for _, v := range s.v.F32[i*in : (i+1)*in] {
			d.Down = append(d.Down, float32(root*float64(v)))
		}
		for o := range out {
			d.Up = append(d.Up, float32(math.Copysign(root, changes[i])*float64(s.u.F32[o*k+i])))
		}
	}
	return d, left
}

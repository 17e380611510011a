//go:build torch

package tune

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/training/protocol"
)

// svdiff learns how far the singular values of the UNet's weights shift (Han et al. 2023, section 3.2). Those of one dimension, the norms',
// shift themselves at a thousandth of the rate; biases stay. The word is dreambooth's.
var svdiff = Method{
	Method: protocol.SVDiff,
	start: func(_ context.Context, b *Base, cfg Config, _ []Photo) (*learner, error) {
		spectra := map[string]*spectrum{}
		weights, err := b.weightsOf(checkpoint.UNet, func(name string, dims []int) bool {
			path, learned := strings.CutSuffix(name, ".weight")
			learned = learned && (len(cfg.Targets) == 0 || isTarget(path, cfg.Targets))
			if learned && len(dims) > 1 {
				spectra[name] = &spectrum{name: name, dims: dims}
			}
			return learned && len(dims) == 1
		})
		if err == nil && len(spectra) == 0 {
			err = fmt.Errorf("targets %q: no layers of the blocks end in them", cfg.Targets)
		}
		if err != nil {
			return nil, err
		}
		nouns, _, err := b.nouns(cfg.Word, cfg.Class, 2)
		return &learner{vectors: rareWord(nouns, cfg.Seed), weights: weights, spectra: spectra, rank: cfg.Rank, rate: cfg.LR,
			weightRate: cfg.LR / 1000, prior: priorPictures}, err
	},
}

// spectrum is a weight [out, in], where in is all dimensions but the first, as u · diag(values) · v. The parts are libtorch's: of a whole
// model they take more memory than the model.
type spectrum struct {
	name  string
	dims  []int
	parts *torch.Params // of this and maybe other spectra
}

// sizes are those of the weight as a matrix, and the number of its singular values.
func (s *spectrum) sizes() (out, in, k int) {
	out, in = s.dims[0], op.Size(s.dims[1:])
	return out, in, min(out, in)
}

// u [out, k], values [k] and v [k, in] are the parts in a graph.
func (s *spectrum) factors(scope op.Scope) (u, values, v op.Tensor) {
	out, in, k := s.sizes()
	return scope.Component(uPart).Weight(s.name, out, k), scope.Component(valuesPart).Weight(s.name, k), scope.Component(vPart).Weight(s.name, k, in)
}

// read copies the parts to Go's memory.
func (s *spectrum) read(engine *torch.Engine) (u, values, v []float32, err error) {
	parts, err := engine.Run(func(scope op.Scope) map[string]op.Tensor {
		u, values, v := s.factors(scope)
		return map[string]op.Tensor{"u": u, "values": values, "v": v}
	}, nil, s.parts)
	return parts["u"].F32, parts["values"].F32, parts["v"].F32, err
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
	engine := t.base.engine
	for i, name := range slices.Sorted(maps.Keys(t.learner.spectra)) {
		tell(fmt.Sprintf("singular values of weight %d of %d", i+1, len(t.learner.spectra)))
		s := t.learner.spectra[name]
		out, in, _ := s.sizes()
		weight, err := engine.Run(func(scope op.Scope) map[string]op.Tensor {
			return map[string]op.Tensor{"weight": scope.Component(checkpoint.UNet).Weight(name, s.dims...).Reshape(out, in)}
		}, nil, t.base.UNetAndText...)
		if err != nil {
			return err
		}
		u, values, v, err := engine.SVD(weight["weight"])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		parts, err := engine.NewParams(map[string]op.Array{uPart + "/" + name: u, valuesPart + "/" + name: values, vPart + "/" + name: v}, false)
		if err != nil {
			return err
		}
		if t.factors == nil {
			t.factors = parts
		} else {
			t.factors.Take(parts)
		}
		s.parts = t.factors
	}
	return nil
}

// free gives the memory of the spectra back.
func (t *task) free() {
	if t.factors != nil {
		t.factors.Free()
		t.factors = nil
	}
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
		u, values, v := d.factors(s)
		_, _, k := d.sizes()
		zero := s.Const([]float32{0}, 1)
		moved := values.Add(s.Component(shiftsPart).Weight(name, k))
		change := zero.Less(moved).Where(moved, zero).Sub(values)
		return s.Component(checkpoint.UNet).Weight(name, dims...).Add(u.Mul(change).MatMul(v).Reshape(dims...)), true
	}
}

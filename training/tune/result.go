//go:build torch

package tune

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"likeness/encoder/concept"
	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/training/protocol"
)

// Result is what was learned.
type Result struct {
	Concept     *concept.Concept
	Best        int     // the step it is of: the one with the lowest loss on held-out noise
	Steps       int     // that were taken
	First, Last float64 // the loss on held-out noise before the first step and at the best
	Rank        int     // of the changes of layers, where the method has such
	Lost        float64 // part of weights' changes that the concept, of low rank, does not hold; 0 where the method moves none
	Elapsed     time.Duration
	Interrupted bool // before the last step; the run can be resumed

	task    *task
	numbers map[string]op.Array // that were learned, of the best step
}

// Note says which part of what was learned the concept does not hold; empty if it holds all.
func (r *Result) Note() string {
	if r.Lost == 0 {
		return ""
	}
	return fmt.Sprintf("a concept of rank %d holds the learned weights but for %.1f %% of their change", r.Rank, 100*r.Lost)
}

// CanSaveModel tells why a model of the method's cannot be written to dir; nil if it can, as far as is known before the work.
func (b *Base) CanSaveModel(method, dir string) error {
	m, err := b.find(method)
	if err != nil {
		return err
	}
	if !m.MovesWeights {
		return fmt.Errorf("%s moves no weights of the model: its concept holds all that it learns; %s move them", method,
			protocol.Able(func(m protocol.Method) bool { return m.MovesWeights }))
	}
	folder, err := checkpoint.Open(b.dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Replaceable(dir)
}

// SaveModel makes or replaces, as a whole, the model folder dir: the base with the weights as they were learned, which a concept of low rank holds
// only in part. The word is a concept of that model, in the folder's file of its name. The encoder is left out: it was trained for the UNet as
// it was before.
func (r *Result) SaveModel(dir string) error {
	weights, err := r.task.weightsWith(r.numbers)
	if err != nil {
		return err
	}
	folder, err := checkpoint.Open(r.task.base.dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.WriteVariant(dir, checkpoint.Variant{
		Weights: weights, Without: []string{"encoder"},
		Beside: func(dir string) error { return r.writeWord(dir) },
	})
}

// writeWord writes the word for the model in dir.
func (r *Result) writeWord(dir string) error {
	folder, err := checkpoint.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	word := *r.Concept
	word.LoRA, word.Encoder = nil, ""
	if word.BaseModel, err = folder.Fingerprint(); err != nil {
		return err
	}
	return word.Write(filepath.Join(dir, WordFile(word.Word)))
}

// WordFile is the name of the file, in a folder that SaveModel wrote, of the concept that the word is.
func WordFile(word string) string { return word + ".safetensors" }

// weightsWith are the weights that are learned, by component and name.
func (t *task) weightsWith(numbers map[string]op.Array) (map[string]map[string][]float32, error) {
	weights := map[string]map[string][]float32{checkpoint.UNet: {}, checkpoint.TextEncoder: {}}
	for name := range t.learner.weights {
		component, weight, _ := strings.Cut(name, "/")
		weights[component][weight] = numbers[name].F32
	}
	for _, name := range slices.Sorted(maps.Keys(t.learner.spectra)) {
		weight, err := t.weightWith(t.learner.spectra[name], numbers[shiftsPart+"/"+name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		weights[checkpoint.UNet][name] = weight
	}
	return weights, nil
}

// weightWith is a weight with its singular values shifted. They are found anew, one weight's at a time: the run's are gone.
func (t *task) weightWith(s *spectrum, shifts op.Array) ([]float32, error) {
	one := &task{base: t.base, learner: &learner{spectra: map[string]*spectrum{s.name: {name: s.name, dims: s.dims}}}}
	defer one.free()
	if err := one.decompose(func(string) {}); err != nil {
		return nil, err
	}
	params, err := t.base.engine.NewParams(map[string]op.Array{shiftsPart + "/" + s.name: shifts}, false)
	if err != nil {
		return nil, err
	}
	defer params.Free()
	out, err := t.base.engine.Run(func(scope op.Scope) map[string]op.Tensor {
		weight, _ := one.learner.shifted(scope)(s.name, s.dims...)
		return map[string]op.Tensor{"weight": weight}
	}, nil, slices.Concat(t.base.UNetAndText, []*torch.Params{one.factors, params})...)
	return out["weight"].F32, err
}

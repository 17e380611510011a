//go:build torch

package tune

import (
	"context"
	"strings"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/training/base"
	"likeness/training/protocol"
)

// perfusion learns a word, and what cross-attention's values make of it in place of what they would; its keys are locked to the class noun's
// (Perfusion, Tewel et al. 2023, section 4). Both act where a gate says that a text state is like the word's.
var perfusion = Method{
	Method: protocol.Perfusion,
	start: func(ctx context.Context, b *Base, cfg Config, photos []Photo) (*learner, error) {
		inverse, err := b.inverseCovariance()
		if err != nil {
			return nil, err
		}
		l, err := textualInversion.start(ctx, b, cfg, photos)
		if err != nil {
			return nil, err
		}
		l.rate, l.wordRate = cfg.LR, cfg.LR/5
		noun, err := b.stateOf(cfg, make([]float32, len(l.vectors)))
		if err != nil {
			return nil, err
		}
		input, err := b.stateOf(cfg, l.vectors)
		if err != nil {
			return nil, err
		}
		l.edit, err = newEdit(b, inverse, input)
		if err != nil {
			return nil, err
		}
		for path, weight := range l.edit.weights {
			l.edit.outputs[path] = product(weight, noun)
		}
		return l, nil
	},
}

// gate opens where a text state's likeness to the concept is over the bias.
type gate struct{ bias, temperature float64 }

// Gates: of learning, as Perfusion's, and of pictures, as they are served.
var (
	learningGate = gate{0.75, 0.1}
	pictureGate  = gate{pipeline.GateBias, pipeline.GateTemperature}
)

// follows is how much of the word's state is kept when the edit follows it by a step.
const follows = 0.99

// edit is what is learned of keys and values of cross-attention.
type edit struct {
	inverse []float64            // [D, D] of the covariance of text states
	input   []float32            // [D], the word's text state, which is followed
	weights map[string]op.Array  // of the layers, by path
	outputs map[string][]float32 // what the layers make in place of the input, by path; those of keys stay
}

// Prefixes of the names of an edit's numbers: those that are learned, and those that are not.
const (
	editsPart = "edits"
	locksPart = "locks"

	inputName = locksPart + "/input"
	probeName = locksPart + "/probe"
)

func newEdit(b *Base, inverse []float64, input []float32) (*edit, error) {
	e := &edit{inverse: inverse, input: input, weights: map[string]op.Array{}, outputs: map[string][]float32{}}
	names := map[string]string{}
	for _, t := range b.UNet.EditTargets() {
		names[checkpoint.UNet+"/"+t.Path+".weight"] = t.Path
	}
	weights, err := b.weightsOf(checkpoint.UNet, func(name string, _ []int) bool { _, ok := names[checkpoint.UNet+"/"+name]; return ok })
	for name, weight := range weights {
		e.weights[names[name]] = weight
	}
	return e, err
}

// outputName is that of a layer's output.
func outputName(path string) string {
	part := locksPart
	if strings.HasSuffix(path, ".to_v") {
		part = editsPart
	}
	return part + "/" + path + ".output"
}

// numbers are the first values, by name.
func (e *edit) numbers() map[string]op.Array {
	d := len(e.input)
	all := map[string]op.Array{inputName: op.Floats(e.input, d), probeName: op.Floats(e.probe(e.input), d)}
	for path, output := range e.outputs {
		all[outputName(path)] = op.Floats(output, len(output))
	}
	return all
}

// probe is what a text state's product with is its likeness to the input: C⁻¹·input over input·C⁻¹·input.
func (e *edit) probe(input []float32) []float32 {
	d := len(input)
	row, length := make([]float64, d), 0.0
	for i := range row {
		for j, v := range input {
			row[i] += e.inverse[i*d+j] * float64(v)
		}
		length += row[i] * float64(input[i])
	}
	probe := make([]float32, d)
	for i, v := range row {
		probe[i] = float32(v / length)
	}
	return probe
}

// edits are the changes of layers in a graph; nil where none are learned.
func (l *learner) edits(s op.Scope, g gate) op.Edits {
	if l.edit == nil {
		return nil
	}
	d := len(l.edit.input)
	network, locks := s.Component(checkpoint.UNet), s.Component(locksPart)
	return func(path string, x op.Tensor, out int) (op.Tensor, bool) {
		if _, ok := l.edit.outputs[path]; !ok {
			return op.Tensor{}, false
		}
		part, _, _ := strings.Cut(outputName(path), "/")
		output := s.Component(part).At(path).Weight("output", out).Reshape(1, 1, out)
		input := locks.Weight("input", d).Reshape(1, 1, d).Linear(network.At(path).Weight("weight", out, d), op.Tensor{})
		likeness := x.MatMul(locks.Weight("probe", d).Reshape(d, 1)) // [B, L, 1]
		opened := likeness.Offset(-g.bias).Scale(1 / g.temperature).Sigmoid()
		return opened.Mul(output).Sub(likeness.Mul(input)), true
	}
}

// concept is the edit at numbers.
func (e *edit) concept(numbers map[string]op.Array) concept.Edit {
	c := concept.Edit{Probe: numbers[probeName].F32, Layers: map[string]concept.Rows{}}
	for path, weight := range e.weights {
		c.Layers[path] = concept.Rows{Input: product(weight, numbers[inputName].F32), Output: numbers[outputName(path)].F32}
	}
	return c
}

// follow moves the edit's input towards the word's state in the step's batches.
func (r *run) follow() error {
	if r.learner.edit == nil {
		return nil
	}
	locks := r.groups[locksPart].params
	arrays, err := locks.Arrays()
	if err != nil {
		return err
	}
	input := arrays[inputName].F32
	for i := range input {
		input[i] = float32(follows*float64(input[i]) + (1-follows)*r.seen[i]/r.seenCount)
	}
	copy(arrays[probeName].F32, r.learner.edit.probe(input))
	r.seen, r.seenCount = nil, 0
	return locks.Set(arrays)
}

// see adds the word's states in a batch's text states [B, L, D] to those of the step.
func (r *run) see(states, slots op.Array) {
	n, d := slots.Dims[2], states.Dims[2]
	if r.seen == nil {
		r.seen = make([]float64, d)
	}
	for i, one := range slots.F32 {
		if one != 0 {
			r.seenCount++
			for j, v := range states.F32[i/n*d:][:d] {
				r.seen[j] += float64(v)
			}
		}
	}
}

// stateOf is the text state of a word with vectors in the first caption.
func (b *Base) stateOf(cfg Config, vectors []float32) ([]float32, error) {
	n, d := cfg.Vectors, b.Text.HiddenSize
	c, err := encode(b.tokenizer, cfg.Captions[0], cfg.Word, cfg.Class, n)
	if err != nil {
		return nil, err
	}
	residual := make([]float32, len(c.ids)*d)
	for i, one := range c.slots {
		if one != 0 {
			copy(residual[i/n*d:][:d], vectors[i%n*d:][:d])
		}
	}
	text, err := base.Sampler{Architecture: b.Architecture, Engine: b.engine}.Text(b.tokenizer, c.ids, residual, b.UNetAndText...)
	if err != nil {
		return nil, err
	}
	state, count := make([]float64, d), 0.0
	for i, one := range c.slots {
		if one != 0 {
			count++
			for j, v := range text.F32[(len(c.ids)+i/n)*d:][:d] {
				state[j] += float64(v)
			}
		}
	}
	mean := make([]float32, d)
	for i, v := range state {
		mean[i] = float32(v / count)
	}
	return mean, nil
}

// product is weight [out, in] · x [in].
func product(weight op.Array, x []float32) []float32 {
	out := make([]float32, weight.Dims[0])
	for o := range out {
		sum := 0.0
		for i, v := range weight.F32[o*len(x):][:len(x)] {
			sum += float64(v) * float64(x[i])
		}
		out[o] = float32(sum)
	}
	return out
}

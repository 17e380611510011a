//go:build torch

package tune

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
)

// learner is what a method moves, at its first values, and how it acts on the networks.
type learner struct {
	vectors      []float32            // [n, text width], differences to the class noun; nil: the subject is the noun itself
	text         int                  // cross-attentions that have n/text of the vectors each; 0: all share them
	layers       concept.LoRA         // changes of layers, of the UNet's and the text encoder's
	spans        *encoder.Encoder     // whose basis the coefficients span the UNet's changes with; nil: there are none
	coefficients []float32            // of these changes, target by target
	gain         float64              // what the layers' changes are multiplied with: alpha/rank
	weights      map[string]op.Array  // of the networks, as unet/conv_in.weight; what is learned of them becomes changes of layers
	spectra      map[string]*spectrum // other weights of the UNet, by their names there, whose singular values shift
	edit         *edit                // gated changes of cross-attention, or nil
	rank         int                  // of these changes
	prior        int                  // pictures of the class to learn beside the photos
	rate         float64              // learning rate of the layers, the coefficients and the spectra's shifts
	weightRate   float64              // of the weights
	wordRate     float64              // and of the vectors
	decay        float64              // of layers and weights, as AdamW has it
	pull         float64              // weight of the mean squared distance from the first values

	everywhere bool // layers are changed for the negative prompt too

	nouns   []float32 // [n, text width] of the class, as vectors; nil: the vectors may become as long as they like
	longest float64   // a word, noun and vector, is never longer
}

// beside is a change with the rows of both.
func beside(d, o concept.Delta) concept.Delta {
	return concept.Delta{In: o.In, Out: o.Out, Rank: d.Rank + o.Rank, Down: slices.Concat(d.Down, o.Down), Up: slices.Concat(d.Up, o.Up)}
}

// freshLayers are changes that change nothing yet: down is uniform within 1/√in, as Kaiming's and kohya's, up is zero.
func freshLayers(targets []op.Target, rank int, seed uint64) map[string]concept.Delta {
	r := rand.New(rand.NewPCG(seed, 0x6c6f7261))
	layers := map[string]concept.Delta{}
	for _, t := range targets {
		d := concept.Delta{In: t.In, Out: t.Out, Rank: rank, Down: make([]float32, rank*t.In), Up: make([]float32, rank*t.Out)}
		for i := range d.Down {
			d.Down[i] = float32((2*r.Float64() - 1) / math.Sqrt(float64(t.In)))
		}
		layers[t.Path] = d
	}
	return layers
}

// Prefixes of the names of what is learned, and of the first values.
const (
	wordsPart  = "words"
	layersPart = "layers"      // of the UNet
	textPart   = "text_layers" // of the text encoder
	basisPart  = "basis"
	startPart  = "start"

	vectorsName      = wordsPart + "/vectors"
	coefficientsName = basisPart + "/coefficients"
)

// layerParts are the parts of layers by component.
var layerParts = map[string]string{checkpoint.UNet: layersPart, checkpoint.TextEncoder: textPart}

// numbers are the first values of what is learned, by name.
func (l *learner) numbers(textWidth int) map[string]op.Array {
	all := map[string]op.Array{}
	if n := len(l.vectors) / textWidth; n > 0 {
		all[vectorsName] = op.Floats(l.vectors, n, textWidth)
	}
	for component, layers := range l.layers {
		for path, d := range layers {
			name := layerParts[component] + "/" + path
			all[name+".down"], all[name+".up"] = op.Floats(d.Down, d.Rank, d.In), op.Floats(d.Up, d.Rank, d.Out)
		}
	}
	if n := len(l.coefficients); n > 0 {
		all[coefficientsName] = op.Floats(l.coefficients, 1, n)
	}
	maps.Copy(all, l.weights)
	if l.edit != nil {
		maps.Copy(all, l.edit.numbers())
	}
	for name, s := range l.spectra {
		_, _, k := s.sizes()
		all[shiftsPart+"/"+name] = op.Floats(make([]float32, k), k)
	}
	return all
}

// moving are those of the numbers that have a learning rate.
func (l *learner) moving(textWidth int) map[string]op.Array {
	all, rates := l.numbers(textWidth), l.rates()
	maps.DeleteFunc(all, func(name string, _ op.Array) bool {
		part, _, _ := strings.Cut(name, "/")
		return rates[part] == 0
	})
	return all
}

// rates are the learning rates of the parts of what is learned; one of zero does not move.
func (l *learner) rates() map[string]float64 {
	return map[string]float64{wordsPart: l.wordRate, layersPart: l.rate, textPart: l.rate, basisPart: l.rate, shiftsPart: l.rate, editsPart: l.rate,
		locksPart: 0, checkpoint.UNet: l.weightRate, checkpoint.TextEncoder: l.weightRate}
}

// learned puts numbers in the place of the first values; the gain is in the layers' up halves then. lost is the part of weights' changes
// that layers do not hold.
func (l *learner) learned(engine *torch.Engine, numbers map[string]op.Array, tell func(string)) (vectors []float32, layers concept.LoRA, lost float64, err error) {
	if layers, lost, err = l.extracted(engine, numbers, tell); err != nil {
		return nil, nil, 0, err
	}
	for component, first := range l.layers {
		layers[component] = map[string]concept.Delta{}
		for path, d := range first {
			name := layerParts[component] + "/" + path
			d.Down, d.Up = numbers[name+".down"].F32, slices.Clone(numbers[name+".up"].F32)
			for i := range d.Up {
				d.Up[i] *= float32(l.gain)
			}
			layers[component][path] = d
		}
	}
	return numbers[vectorsName].F32, layers, lost, nil
}

// deltas are the changes of a component's layers in a graph.
func (l *learner) deltas(s op.Scope, component string) op.Deltas {
	if l.spans != nil && component == checkpoint.UNet {
		return l.spanned(s)
	}
	layers := l.layers[component]
	if len(layers) == 0 {
		return nil
	}
	s = s.Component(layerParts[component])
	return func(path string, in, out int) (down, up op.Tensor, ok bool) {
		d, ok := layers[path]
		if !ok {
			return op.Tensor{}, op.Tensor{}, false
		}
		up = s.At(path).Weight("up", d.Rank, out)
		if l.gain != 1 {
			up = up.Scale(l.gain)
		}
		return s.At(path).Weight("down", d.Rank, in).Transpose(1, 0), up, true
	}
}

// spanned are the changes that the coefficients make of the encoder's basis, which is at the root of s.
func (l *learner) spanned(s op.Scope) op.Deltas {
	return func(path string, in, out int) (down, up op.Tensor, ok bool) {
		coefficients := s.Component(basisPart).Weight("coefficients", 1, len(l.coefficients)) // read where the layer is, which may be computed again
		if down, up, ok = encoder.Deltas(s, l.spans.Config(), l.spans.Layout(), coefficients)(path, in, out); ok {
			up = up.Reshape(-1, out) // of one concept, without the batch
		}
		return down, up, ok
	}
}

// distance is the mean squared distance [1] of all that is learned from the first values, which are one weight.
func (l *learner) distance(s op.Scope, textWidth int) op.Tensor {
	numbers := l.moving(textWidth)
	var all []op.Tensor
	total := 0
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		component, path, _ := strings.Cut(name, "/")
		all = append(all, s.Component(component).Weight(path, numbers[name].Dims...).Reshape(1, -1))
		total += len(numbers[name].F32)
	}
	moved := all[0].Concat(1, all[1:]...).Sub(s.Component(startPart).Weight("all", 1, total))
	return moved.Mul(moved).Mean(0, 1).Reshape(1)
}

// first are the first values as distance reads them.
func (l *learner) first(textWidth int) map[string]op.Array {
	numbers := l.moving(textWidth)
	var all []float32
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		all = append(all, numbers[name].F32...)
	}
	return map[string]op.Array{startPart + "/all": op.Floats(all, 1, len(all))}
}

// shorten keeps words, each of width numbers, from becoming longer than the longest of the vocabulary: such words drown the prompt around
// them. It tells whether it changed vectors.
func (l *learner) shorten(vectors []float32, width int) bool {
	changed := false
	for i := 0; i < len(l.nouns); i += width {
		square := 0.0
		for j := i; j < i+width; j++ {
			square += math.Pow(float64(vectors[j]+l.nouns[j]), 2)
		}
		if length := math.Sqrt(square); length > l.longest {
			changed = true
			for j := i; j < i+width; j++ {
				vectors[j] = float32(float64(vectors[j]+l.nouns[j])*l.longest/length) - l.nouns[j]
			}
		}
	}
	return changed
}

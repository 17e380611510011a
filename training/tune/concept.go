//go:build torch

package tune

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/op"
)

// unpack takes one packed vector of a layout apart.
func unpack(layout *op.Layout, packed []float32) map[string]delta {
	layers := map[string]delta{}
	for _, t := range layout.Targets() {
		down, up, _ := layout.Span(t.Path)
		layers[t.Path] = delta{t.In, t.Out, layout.Rank, slices.Clone(packed[down:up]), slices.Clone(packed[up : up+layout.Rank*t.Out])}
	}
	return layers
}

// pack writes layers as vectors of the layout, end to end, whose sum they are; ok is false where the layout lacks one of them.
func pack(layout *op.Layout, layers map[string]delta) (packed []float32, ok bool) {
	for path, d := range layers {
		down, up, ok := layout.Span(path)
		if !ok {
			return nil, false
		}
		for k := range d.rank {
			piece, row := k/layout.Rank*layout.Size(), k%layout.Rank
			for len(packed) <= piece {
				packed = append(packed, make([]float32, layout.Size())...)
			}
			copy(packed[piece+down+row*d.in:], d.down[k*d.in:][:d.in])
			copy(packed[piece+up+row*d.out:], d.up[k*d.out:][:d.out])
		}
	}
	return packed, true
}

// concept makes what was learned a concept: layers as offsets of the encoder's layout.
func (t *task) concept(numbers map[string]op.Array) (*concept.Concept, error) {
	vectors, layers := t.learner.learned(numbers)
	var pictures []*encoder.Photo
	c := &concept.Concept{Word: t.cfg.Word, Class: t.cfg.Class, Method: t.cfg.Method, BaseModel: t.base.fingerprint, Created: time.Now().UTC(),
		Photos: len(t.photos)}
	for _, p := range t.photos {
		pictures = append(pictures, p.Picture)
		c.Notes = append(c.Notes, p.Picture.Notes...)
	}
	c.PhotoHash = encoder.HashPhotos(pictures)
	if width := t.base.Text.HiddenSize; len(vectors) > 0 {
		c.WordEmbeddings = concept.Embeddings{Layers: 1, Vectors: len(vectors) / width, Width: width, Data: vectors}
	}
	if len(layers) > 0 {
		layout, err := t.layout(layers)
		if err != nil {
			return nil, err
		}
		packed, ok := pack(layout, layers)
		if !ok {
			return nil, fmt.Errorf("the encoder's offsets do not act on all of the layers %q", slices.Sorted(maps.Keys(layers)))
		}
		c.Offsets, c.Layout = packed, layout.Digest()
	}
	if t.base.encoder != nil {
		c.Encoder = t.base.encoder.Version()
	}
	return c, c.Validate()
}

// layout is the encoder's, or one of the layers' own.
func (t *task) layout(layers map[string]delta) (*op.Layout, error) {
	if t.base.encoder != nil {
		return t.base.encoder.Layout(), nil
	}
	var targets []op.Target
	rank := 1
	for path, d := range layers {
		targets, rank = append(targets, op.Target{Path: path, In: d.in, Out: d.out}), d.rank
	}
	return op.NewLayout(rank, targets)
}

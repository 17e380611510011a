//go:build torch

package tune

import (
	"slices"
	"time"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/op"
)

// maxNotes is how many different remarks on photos a concept keeps.
const maxNotes = 8

// concept makes what was learned a concept, and tells how far it is; lost is the part of weights' changes that it does not hold.
func (t *task) concept(numbers map[string]op.Array, tell func(string)) (c *concept.Concept, lost float64, err error) {
	vectors, layers, lost, err := t.learner.learned(t.base.engine, numbers, tell)
	if err != nil {
		return nil, 0, err
	}
	var pictures []*encoder.Photo
	c = &concept.Concept{Word: t.cfg.Word, Class: t.cfg.Class, Method: t.cfg.Method, BaseModel: t.base.fingerprint, Created: time.Now().UTC(),
		Photos: len(t.photos)}
	for _, p := range t.photos {
		pictures = append(pictures, p.Picture)
		for _, note := range p.Picture.Notes {
			if !slices.Contains(c.Notes, note) && len(c.Notes) < maxNotes {
				c.Notes = append(c.Notes, note)
			}
		}
	}
	c.PhotoHash = encoder.HashPhotos(pictures)
	if width := t.base.Text.HiddenSize; len(vectors) > 0 {
		c.WordEmbeddings = concept.Embeddings{Layers: t.layers(), Vectors: t.vectors() / t.layers(), Width: width, Data: vectors}
	}
	if e := t.learner.spans; e != nil {
		c.Coefficients, c.Layout = numbers[coefficientsName].F32, e.Layout().Digest()
	}
	if e := t.learner.edit; e != nil {
		c.Edit = e.concept(numbers)
	}
	if len(layers) > 0 {
		c.LoRA = layers
	}
	if t.base.encoder != nil {
		c.Encoder = t.base.encoder.Version()
	}
	return c, lost, c.Validate()
}

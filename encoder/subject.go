package encoder

import (
	"fmt"

	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// Reach is what a model has to be opened with to draw the concepts.
func Reach(concepts ...*concept.Concept) pipeline.Reach {
	var all pipeline.Reach
	for _, c := range concepts {
		own := pipeline.Reach{Offsets: map[string][]op.Target{}, LayeredText: c.WordEmbeddings.Layers > 1}
		for component, deltas := range c.LoRA {
			own.Offsets[component] = exchange.Targets(deltas)
		}
		all = all.With(own)
	}
	return all
}

// Subject is a concept as requests to the base model use it, at a scale; e, the model's encoder or nil, expands its coefficients. Image tokens
// are left out: they are an adapter's.
func Subject(c *concept.Concept, scale float64, base *pipeline.Model, e *Encoder) (pipeline.Subject, error) {
	words := c.WordEmbeddings
	s := pipeline.Subject{Word: c.Word, Class: c.Class, WordEmbeddings: words.Data, WordLayers: words.Layers,
		Everywhere: c.Method == exchange.MethodLoRA, Scale: scale}
	if c.BaseModel != base.Fingerprint {
		return s, &OtherBaseError{c.Word, base.Fingerprint, c.BaseModel}
	}
	if err := checkWords(c, base); err != nil {
		return s, err
	}
	for component, deltas := range c.LoRA {
		layout, packed, err := exchange.Pack(deltas)
		if err != nil {
			return s, fmt.Errorf("concept <%s>: %w", c.Word, err)
		}
		if component == checkpoint.UNet {
			s.Layout, s.Offsets = layout, packed
			continue
		}
		if s.TextOffsets == nil {
			s.TextOffsets = map[string]pipeline.Packed{}
		}
		s.TextOffsets[component] = pipeline.Packed{Layout: layout, Values: packed}
	}
	if len(c.Offsets)+len(c.Coefficients) == 0 {
		return s, nil
	}
	if e == nil {
		return s, &OtherBaseError{c.Word, base.Fingerprint, c.Layout}
	}
	var err error
	s.Layout = e.Layout()
	s.Offsets, err = e.Expand(c)
	return s, err
}

// checkWords holds the sizes of a concept's words against the base model's.
func checkWords(c *concept.Concept, base *pipeline.Model) error {
	words, layers := c.WordEmbeddings, base.UNet.TextLayers()
	reason := ""
	switch {
	case words.Width != 0 && words.Width != base.WordWidth():
		reason = fmt.Sprintf("have width %d, the words of this model's text encoders together %d", words.Width, base.WordWidth())
	case words.Layers > 1 && base.UNet.PooledWidth() > 0:
		reason = "differ between cross-attentions, which this model, whose UNet reads pooled text as SDXL's does, cannot read"
	case words.Layers > 1 && words.Layers != layers:
		reason = fmt.Sprintf("are of %d cross-attentions, this model has %d: tune the concept on this model", words.Layers, layers)
	default:
		return nil
	}
	return &concept.InvalidError{Field: "embeddings", Reason: fmt.Sprintf("of <%s> %s", c.Word, reason)}
}

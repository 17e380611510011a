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
		own := pipeline.Reach{Offsets: map[string][]op.Target{}, LayeredText: c.WordEmbeddings.Layers > 1,
			Edits: len(c.Edit.Probe) > 0}
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
	var err error
	if s.Edit, err = packEdit(c, base); err != nil {
		return s, err
	}
	if len(c.Offsets)+len(c.Coefficients) == 0 {
		return base.Pack(s), nil
	}
	if e == nil {
		return s, &OtherBaseError{c.Word, base.Fingerprint, c.Layout}
	}
	s.Layout = e.Layout()
	s.Offsets, err = e.Expand(c)
	return base.Pack(s), err
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

// packEdit is a concept's edit in the order of the base model's layers; nil where it has none.
func packEdit(c *concept.Concept, base *pipeline.Model) (*pipeline.Edit, error) {
	if len(c.Edit.Probe) == 0 {
		return nil, nil
	}
	edit := &pipeline.Edit{Probe: c.Edit.Probe}
	targets := base.UNet.EditTargets()
	for _, t := range targets {
		rows := c.Edit.Layers[t.Path]
		if len(rows.Input) != t.Out || len(c.Edit.Layers) != len(targets) || len(c.Edit.Probe) != t.In {
			return nil, &concept.InvalidError{Field: "edit", Reason: fmt.Sprintf("of <%s> is of %d layers for text of width %d, %d numbers at %s; this model has %d layers, width %d and %d numbers: tune the concept on this model",
				c.Word, len(c.Edit.Layers), len(c.Edit.Probe), len(rows.Input), t.Path, len(targets), t.In, t.Out)}
		}
		edit.Input, edit.Output = append(edit.Input, rows.Input...), append(edit.Output, rows.Output...)
	}
	return edit, nil
}

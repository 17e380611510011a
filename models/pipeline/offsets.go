package pipeline

import (
	"slices"

	"likeness/models/op"
)

// everywhere are the subjects whose offsets act on the negative prompt too, without their words.
func (r Request) everywhere() []Subject {
	subjects := slices.DeleteFunc(slices.Clone(r.Subjects), func(s Subject) bool { return !s.Everywhere })
	for i := range subjects {
		subjects[i].WordEmbeddings = nil
	}
	return subjects
}

// elsewhere are the others.
func (r Request) elsewhere() []Subject {
	return slices.DeleteFunc(slices.Clone(r.Subjects), func(s Subject) bool { return s.Everywhere })
}

func unetOffsets(s Subject) []float32 { return s.Offsets }

// textOffsets gives subjects' offsets of the named text encoder.
func textOffsets(name string) func(Subject) []float32 {
	return func(s Subject) []float32 { return s.TextOffsets[name].Values }
}

// offsetsOf are the subjects' offsets, vectors of the layout end to end, with the up half of every target times the subject's scale. They are a
// subject's own where nothing has to be changed.
func offsetsOf(layout *op.Layout, subjects []Subject, of func(Subject) []float32) []float32 {
	var all []float32
	for _, s := range subjects {
		if s.Scale != 0 {
			all = joined(all, scaled(layout, of(s), float32(s.Scale)))
		}
	}
	return all
}

// joined is a and b end to end: one of them itself, where the other one is empty.
func joined(a, b []float32) []float32 {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	return slices.Concat(a, b)
}

func scaled(layout *op.Layout, vectors []float32, scale float32) []float32 {
	if scale == 1 || len(vectors) == 0 {
		return vectors
	}
	vectors = slices.Clone(vectors)
	for vector := range slices.Chunk(vectors, layout.Size()) {
		for _, t := range layout.Targets() {
			_, up, _ := layout.Span(t.Path)
			for i := range layout.Rank * t.Out {
				vector[up+i] *= scale
			}
		}
	}
	return vectors
}

// withOffsets is the model with one input more, offsets [B, K, layout.Size()], with B = 1 for all rows; a nil layout leaves it as it is.
func withOffsets(model op.Model, layout *op.Layout) op.Model {
	if layout == nil {
		return model
	}
	return func(s op.Scope) map[string]op.Tensor {
		return model(s.WithOffsets(layout, s.Input("offsets", op.Float32, -1, -1, layout.Size())))
	}
}

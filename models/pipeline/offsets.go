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

// offsetsOf lists the subjects' offsets, each of one vector of the layout, with the up half of every target times the subject's scale.
func offsetsOf(layout *op.Layout, subjects []Subject, of func(Subject) []float32) [][]float32 {
	var all [][]float32
	for _, s := range subjects {
		if s.Scale == 0 || len(of(s)) == 0 {
			continue
		}
		for vector := range slices.Chunk(of(s), layout.Size()) {
			all = append(all, scaled(layout, vector, float32(s.Scale)))
		}
	}
	return all
}

func scaled(layout *op.Layout, vector []float32, scale float32) []float32 {
	if scale == 1 {
		return vector
	}
	vector = slices.Clone(vector)
	for _, t := range layout.Targets() {
		_, up, _ := layout.Span(t.Path)
		for i := range layout.Rank * t.Out {
			vector[up+i] *= scale
		}
	}
	return vector
}

// equalRows is offsets [rows, K, size], K ≥ 1, the same for every row of a run: zeros where there are none.
func equalRows(layout *op.Layout, offsets []float32, rows int) op.Array {
	if len(offsets) == 0 {
		offsets = make([]float32, layout.Size())
	}
	return op.Floats(slices.Repeat(offsets, rows), rows, len(offsets)/layout.Size(), layout.Size())
}

// withOffsets is the model with one input more, offsets [B, K, layout.Size()]; a nil layout leaves it as it is.
func withOffsets(model op.Model, layout *op.Layout) op.Model {
	if layout == nil {
		return model
	}
	return func(s op.Scope) map[string]op.Tensor {
		return model(s.WithOffsets(layout, s.Input("offsets", op.Float32, -1, -1, layout.Size())))
	}
}

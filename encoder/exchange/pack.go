package exchange

import (
	"fmt"
	"maps"
	"slices"

	"likeness/models/op"
)

// Targets lists the layers that the deltas act on, sorted by path.
func Targets(deltas map[string]Delta) []op.Target {
	var targets []op.Target
	for _, path := range slices.Sorted(maps.Keys(deltas)) {
		targets = append(targets, op.Target{Path: path, In: deltas[path].In, Out: deltas[path].Out})
	}
	return targets
}

// Pack writes deltas as offsets of the layout. A delta of a rank above the layout's is cut into pieces of the layout's rank, whose sum it
// is: the vector is several of the layout's vectors end to end, which are summed as those of several concepts are. Layers that the
// layout lacks are an *Error.
func Pack(layout *op.Layout, deltas map[string]Delta) ([]float32, error) {
	pieces := 0
	lacking := &Error{Path: "offsets"}
	for _, t := range Targets(deltas) {
		d := deltas[t.Path]
		if _, _, ok := layout.Span(t.Path); !ok {
			lacking.Problems = append(lacking.Problems, Problem{t.Path, "the served model's offsets do not act on this layer"})
		}
		pieces = max(pieces, (d.Rank+layout.Rank-1)/layout.Rank)
	}
	if len(lacking.Problems) > 0 {
		return nil, lacking
	}
	packed := make([]float32, pieces*layout.Size())
	for _, t := range layout.Targets() {
		d, ok := deltas[t.Path]
		if !ok {
			continue
		}
		if d.In != t.In || d.Out != t.Out {
			return nil, fmt.Errorf("offsets of %s: the delta is [%d, %d], the layer [%d, %d]", t.Path, d.Out, d.In, t.Out, t.In)
		}
		down, up, _ := layout.Span(t.Path)
		for k := range d.Rank {
			piece, row := packed[k/layout.Rank*layout.Size():], k%layout.Rank
			copy(piece[down+row*t.In:], d.Down[k*t.In:][:t.In])
			copy(piece[up+row*t.Out:], d.Up[k*t.Out:][:t.Out])
		}
	}
	return packed, nil
}

// Unpack is the reverse of Pack. Rows whose up half is zero change nothing and are left out, as are layers that have no others.
func Unpack(layout *op.Layout, packed []float32) (map[string]Delta, error) {
	if size := layout.Size(); size == 0 || len(packed)%size != 0 {
		return nil, fmt.Errorf("%d offsets are no multiple of the layout's %d", len(packed), size)
	}
	deltas := map[string]Delta{}
	for _, t := range layout.Targets() {
		down, up, _ := layout.Span(t.Path)
		d := Delta{In: t.In, Out: t.Out}
		for piece := range slices.Chunk(packed, layout.Size()) {
			for row := range layout.Rank {
				upRow := piece[up+row*t.Out:][:t.Out]
				if !slices.ContainsFunc(upRow, func(v float32) bool { return v != 0 }) {
					continue
				}
				d.Rank++
				d.Down = append(d.Down, piece[down+row*t.In:][:t.In]...)
				d.Up = append(d.Up, upRow...)
			}
		}
		if d.Rank > 0 {
			deltas[t.Path] = d
		}
	}
	return deltas, nil
}

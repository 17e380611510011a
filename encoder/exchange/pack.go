package exchange

import (
	"fmt"
	"maps"
	"slices"

	"likeness/encoder/concept"
	"likeness/models/op"
)

// Targets lists the layers that the deltas act on, sorted by path.
func Targets(deltas map[string]concept.Delta) []op.Target {
	var targets []op.Target
	for _, path := range slices.Sorted(maps.Keys(deltas)) {
		targets = append(targets, op.Target{Path: path, In: deltas[path].In, Out: deltas[path].Out})
	}
	return targets
}

// Pack writes deltas as one vector of offsets, in a layout of their own whose rank is the highest of theirs. Deltas that lie in memory as the
// vector does, as a file's of one rank, are not copied: they are its parts.
func Pack(deltas map[string]concept.Delta) (*op.Layout, []float32, error) {
	rank := 1
	for _, d := range deltas {
		rank = max(rank, d.Rank)
	}
	layout, err := op.NewLayout(rank, Targets(deltas))
	if err != nil {
		return nil, nil, err
	}
	if packed := whole(layout, deltas); packed != nil {
		return layout, packed, nil
	}
	packed := make([]float32, layout.Size())
	for path, d := range deltas {
		down, up, _ := layout.Span(path)
		copy(packed[down:up], d.Down)
		copy(packed[up:][:rank*d.Out], d.Up)
	}
	return layout, packed, nil
}

// whole is the vector of the layout that the deltas are parts of, nil where they lie elsewhere.
func whole(layout *op.Layout, deltas map[string]concept.Delta) []float32 {
	var packed []float32
	for i, t := range layout.Targets() {
		d := deltas[t.Path]
		if i == 0 {
			packed = d.Down[:min(cap(d.Down), layout.Size())]
		}
		down, up, _ := layout.Span(t.Path)
		if len(packed) < layout.Size() || d.Rank < layout.Rank || !begins(d.Down, packed[down:]) || !begins(d.Up, packed[up:]) {
			return nil
		}
	}
	return packed
}

// begins tells whether part is the memory that whole begins with.
func begins(part, whole []float32) bool {
	return len(part) > 0 && len(whole) > 0 && &part[0] == &whole[0]
}

// Unpack is the reverse of Pack, of one vector or several end to end, whose sum is taken. Rows whose up half is zero change nothing and are
// left out, as are layers that have no others.
func Unpack(layout *op.Layout, packed []float32) (map[string]concept.Delta, error) {
	if size := layout.Size(); size == 0 || len(packed)%size != 0 {
		return nil, fmt.Errorf("%d offsets are no multiple of the layout's %d", len(packed), size)
	}
	deltas := map[string]concept.Delta{}
	for _, t := range layout.Targets() {
		down, up, _ := layout.Span(t.Path)
		d := concept.Delta{In: t.In, Out: t.Out}
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

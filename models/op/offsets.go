package op

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Target is one linear weight that offsets act on: y += (x · downᵀ) · up, with down [rank, in] and up [rank, out] of each sample.
// down is LoRA's A, up the transpose of its B.
type Target struct {
	Path    string // the linear module's dotted path, without ".weight"
	In, Out int
}

// Layout says where each target's down and up lie in a packed offsets vector: targets sorted by path, down then up, row-major.
type Layout struct {
	Rank    int
	targets []Target
	start   map[string]int // of a target's down, in floats
	size    int
}

// NewLayout orders the targets by path. Paths must be distinct.
func NewLayout(rank int, targets []Target) (*Layout, error) {
	l := &Layout{Rank: rank, targets: slices.Clone(targets), start: make(map[string]int, len(targets))}
	slices.SortFunc(l.targets, func(a, b Target) int { return strings.Compare(a.Path, b.Path) })
	if rank < 1 {
		return nil, fmt.Errorf("offset rank %d: must be at least 1", rank)
	}
	for _, t := range l.targets {
		if _, twice := l.start[t.Path]; twice {
			return nil, fmt.Errorf("offset target %s: named twice", t.Path)
		}
		l.start[t.Path] = l.size
		l.size += rank * (t.In + t.Out)
	}
	return l, nil
}

// With returns the layout of the same rank with more targets; those that l has already are left as they are, and must have its sizes.
func (l *Layout) With(targets ...Target) (*Layout, error) {
	all := l.Targets()
	for _, t := range targets {
		i := slices.IndexFunc(all, func(own Target) bool { return own.Path == t.Path })
		if i < 0 {
			all = append(all, t)
		} else if all[i] != t {
			return nil, fmt.Errorf("offset target %s: is [%d, %d] here and [%d, %d] there", t.Path, all[i].Out, all[i].In, t.Out, t.In)
		}
	}
	return NewLayout(l.Rank, all)
}

// Size is the length of a sample's packed offsets, in floats.
func (l *Layout) Size() int { return l.size }

// Targets returns the targets in order of their place.
func (l *Layout) Targets() []Target { return append([]Target(nil), l.targets...) }

// Span returns where a target's down and up begin; ok is false where the path is no target.
func (l *Layout) Span(path string) (down, up int, ok bool) {
	down, ok = l.start[path]
	if !ok {
		return 0, 0, false
	}
	i := sort.Search(len(l.targets), func(i int) bool { return l.targets[i].Path >= path })
	return down, down + l.Rank*l.targets[i].In, true
}

// Input is the input [len(rows), K, l.Size()] of a run whose rows have these offsets, each none or vectors end to end; K ≥ 1 is the most of them,
// and zeros are where there are less. It is [1, K, l.Size()], which acts on every row, where all rows have the same in the same memory: then it
// is that memory, and no copy. Otherwise it lies in *memory, which grows to hold it.
func (l *Layout) Input(rows [][]float32, memory *[]float32) Array {
	longest := l.size
	for _, row := range rows {
		longest = max(longest, len(row))
	}
	if !slices.ContainsFunc(rows, func(row []float32) bool { return !same(row, rows[0]) }) {
		rows = rows[:1]
	}
	if len(rows) == 1 && len(rows[0]) > 0 {
		return Floats(rows[0], 1, longest/l.size, l.size)
	}
	input := slices.Grow((*memory)[:0], len(rows)*longest)[:len(rows)*longest]
	for i, row := range rows {
		own := input[i*longest:][:longest]
		clear(own[copy(own, row):])
	}
	*memory = input
	return Floats(input, len(rows), longest/l.size, l.size)
}

// same tells whether a and b are the same memory.
func same(a, b []float32) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Repack writes vectors of from, end to end, as vectors of l with the same sum. A rank above l's is cut into pieces of l's rank, rows that
// change nothing are left out. It is an error if l lacks a target of from or has it in another size.
func (l *Layout) Repack(from *Layout, packed []float32) ([]float32, error) {
	if from.size == 0 || len(packed)%from.size != 0 {
		return nil, fmt.Errorf("%d offsets are no vectors of %d", len(packed), from.size)
	}
	if l.Rank == from.Rank && slices.Equal(l.targets, from.targets) {
		return packed, nil
	}
	var out []float32
	for _, t := range from.targets {
		at := sort.Search(len(l.targets), func(i int) bool { return l.targets[i].Path >= t.Path })
		if at == len(l.targets) || l.targets[at] != t {
			return nil, fmt.Errorf("offset target %s [%d, %d]: the offsets here do not act on such a layer", t.Path, t.Out, t.In)
		}
		row := 0 // of l, counted through its pieces
		down, up, _ := from.Span(t.Path)
		for vector := range slices.Chunk(packed, from.size) {
			for k := range from.Rank {
				lower, upper := vector[down+k*t.In:][:t.In], vector[up+k*t.Out:][:t.Out]
				if !slices.ContainsFunc(upper, func(v float32) bool { return v != 0 }) {
					continue
				}
				for len(out) <= row/l.Rank*l.size {
					out = append(out, make([]float32, l.size)...)
				}
				piece := out[row/l.Rank*l.size:]
				copy(piece[l.start[t.Path]+row%l.Rank*t.In:], lower)
				copy(piece[l.start[t.Path]+l.Rank*t.In+row%l.Rank*t.Out:], upper)
				row++
			}
		}
	}
	return out, nil
}

// Digest identifies the layout: two layouts with one digest read the same vector alike.
func (l *Layout) Digest() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rank %d\n", l.Rank)
	for _, t := range l.targets {
		fmt.Fprintf(&b, "%s %d %d\n", t.Path, t.In, t.Out)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}

// Deltas gives the low-rank change of the linear layer at a path: down [in, rank] and up [rank, out], of each sample of a batch where a
// dimension is in front; ok is false where the layer has none.
type Deltas func(path string, in, out int) (down, up Tensor, ok bool)

// WithDeltas makes the linear layers under s read their changes from deltas: y += (x · down) · up. Nil takes them away.
func (s Scope) WithDeltas(deltas Deltas) Scope {
	s.deltas = deltas
	return s
}

// WithOffsets makes the linear layers under s that layout names read their offsets from packed [B, K, layout.Size()]: the sum of K
// concepts' offsets for each sample, or with B = 1 for all of them. All zeros is exactly the base model. A nil layout takes the offsets away.
func (s Scope) WithOffsets(layout *Layout, packed Tensor) Scope {
	if layout == nil {
		return s.WithDeltas(nil)
	}
	return s.WithDeltas(func(path string, in, out int) (down, up Tensor, ok bool) {
		d, u, ok := layout.Span(path)
		if !ok {
			return Tensor{}, Tensor{}, false
		}
		if u-d != layout.Rank*in {
			s.At(path).Fail("offsets: the layout has %d inputs, the module %d", (u-d)/layout.Rank, in)
		}
		down = packed.Slice(2, d, u).Reshape(0, -1, in).Transpose(0, 2, 1)           // [B, in, K·rank]
		return down, packed.Slice(2, u, u+layout.Rank*out).Reshape(0, -1, out), true // [B, K·rank, out]
	})
}

// Delta returns the change of the scope's own module, as Deltas gives it.
func (s Scope) Delta(in, out int) (down, up Tensor, ok bool) {
	if s.deltas == nil {
		return Tensor{}, Tensor{}, false
	}
	return s.deltas(s.path, in, out)
}

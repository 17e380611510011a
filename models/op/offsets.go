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
	l := &Layout{Rank: rank, targets: append([]Target(nil), targets...), start: map[string]int{}}
	sort.Slice(l.targets, func(i, j int) bool { return l.targets[i].Path < l.targets[j].Path })
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

type offsets struct {
	layout *Layout
	packed Tensor // [B, K, layout.Size()]
}

// WithOffsets makes the linear layers under s that layout names read their offsets from packed [B, K, layout.Size()]: the sum of K
// concepts' offsets for each sample. All zeros is exactly the base model. A nil layout takes the offsets away.
func (s Scope) WithOffsets(layout *Layout, packed Tensor) Scope {
	s.offsets = offsets{layout, packed}
	return s
}

// Offsets returns down [B, in, K·rank] and up [B, K·rank, out] of the scope's own module, and whether it is a target.
func (s Scope) Offsets(in, out int) (down, up Tensor, ok bool) {
	l := s.offsets.layout
	if l == nil {
		return Tensor{}, Tensor{}, false
	}
	d, u, ok := l.Span(s.path)
	if !ok {
		return Tensor{}, Tensor{}, false
	}
	if u-d != l.Rank*in {
		s.Fail("offsets: the layout has %d inputs, the module %d", (u-d)/l.Rank, in)
	}
	down = s.offsets.packed.Slice(2, d, u).Reshape(0, -1, in).Transpose(0, 2, 1)
	up = s.offsets.packed.Slice(2, u, u+l.Rank*out).Reshape(0, -1, out)
	return down, up, true
}

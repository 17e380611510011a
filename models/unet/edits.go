package unet

import (
	"strings"

	"likeness/models/op"
)

// EditTargets lists the layers that gated edits act on: keys and values of every cross-attention.
func (c Config) EditTargets() []op.Target {
	var targets []op.Target
	for _, a := range c.CrossAttentions() {
		for _, name := range []string{"to_k", "to_v"} {
			targets = append(targets, op.Target{Path: a.Path + "." + name, In: c.TextWidth(), Out: a.Width})
		}
	}
	return targets
}

// EditSize is the length of one row of edits: the outputs of all targets end to end.
func (c Config) EditSize() int {
	size := 0
	for _, t := range c.EditTargets() {
		size += t.Out
	}
	return size
}

// GateDims are those of gates for rows texts of length tokens, with so many rows of edits.
func (c Config) GateDims(rows, length, edits int) []int {
	dims := c.TextDims(rows, length)
	dims[len(dims)-1] = edits
	return dims
}

// withEdits declares the inputs gates, GateDims, and edits [B, R, EditSize]: a target adds to what it makes of a text state the sum of its
// own part of the rows, each times the state's gate. Gates of zero are exactly none.
func withEdits(s op.Scope, cfg Config) op.Scope {
	gates := s.Input("gates", op.Float32, cfg.GateDims(-1, -1, -1)...)
	rows := s.Input("edits", op.Float32, -1, -1, cfg.EditSize())
	start, layers, at := map[string]int{}, map[string]int{}, 0
	for _, t := range cfg.EditTargets() {
		start[t.Path] = at
		at += t.Out
	}
	for _, a := range cfg.CrossAttentions() {
		layers[a.Path] = a.Layer
	}
	return s.WithEdits(func(path string, _ op.Tensor, out int) (op.Tensor, bool) {
		first, ok := start[path]
		if !ok {
			return op.Tensor{}, false
		}
		own := rows.Slice(2, first, first+out) // [B, R, out]
		if !cfg.LayeredText {
			return gates.MatMul(own), true
		}
		layer := layers[path[:strings.LastIndex(path, ".")]]
		return gates.Slice(1, layer, layer+1).MatMul(own.Reshape(0, 1, -1, out)).Reshape(0, -1, out), true
	})
}

package op

// Edits gives what is added to what the linear layer at a path makes of x, [B, L, out]; ok is false where nothing is.
type Edits func(path string, x Tensor, out int) (change Tensor, ok bool)

// WithEdits makes the linear layers under s add what edits give. Nil takes them away.
func (s Scope) WithEdits(edits Edits) Scope {
	s.edits = edits
	return s
}

// Edit returns what the scope's own module adds to what it makes of x, as Edits gives it.
func (s Scope) Edit(x Tensor, out int) (change Tensor, ok bool) {
	if s.edits == nil {
		return Tensor{}, false
	}
	return s.edits(s.path, x, out)
}

package pipeline

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"likeness/models/op"
	"likeness/models/tokenizer"
)

// encodeText returns the text states [L, D] of a prompt, and how many tokens did not fit.
func (e *Engine) encodeText(ctx context.Context, field, prompt string, subjects []Subject) (states []float32, truncated int, err error) {
	ids, residual, truncated, err := e.model.tokens(field, prompt, subjects)
	if err != nil {
		return nil, 0, err
	}
	m := e.model
	offsets := slices.Concat(offsetsOf(m.TextLayout, subjects, textOffsets)...)
	key := textKey(ids, residual, offsets)
	if states, ok := e.texts.get(key); ok {
		return states, truncated, nil
	}
	length, width := len(ids), m.Text.HiddenSize
	inputs := map[string]op.Array{"input_ids": op.Ints(ids, 1, length), "concept_embeddings": op.Floats(residual, 1, length, width)}
	if m.TextLayout != nil {
		inputs["offsets"] = oneRow(m.TextLayout, offsets)
	}
	out, err := m.text.Run(ctx, inputs)
	if err != nil {
		return nil, 0, fmt.Errorf("text encoder: %w", err)
	}
	states = out["last_hidden_state"].F32
	if len(states) != length*width {
		return nil, 0, fmt.Errorf("text encoder: last_hidden_state has %d values, needs %d", len(states), length*width)
	}
	e.texts.put(key, states)
	return states, truncated, nil
}

// tokens returns the prompt's ids [L] and the residuals [L, D] that its subjects add to their embeddings.
func (m *Model) tokens(field, prompt string, subjects []Subject) (ids []int64, residual []float32, truncated int, err error) {
	width := m.Text.HiddenSize
	subjects = slices.Clone(subjects)
	subjects = slices.DeleteFunc(subjects, func(s Subject) bool {
		if s.WordEmbeddings == nil {
			prompt = strings.ReplaceAll(prompt, "<"+s.Word+">", s.Class)
		}
		return s.WordEmbeddings == nil
	})
	words := make([]tokenizer.Placeholder, len(subjects))
	for i, s := range subjects {
		words[i] = tokenizer.Placeholder{Word: s.Word, Class: s.Class, Vectors: len(s.WordEmbeddings) / width}
	}
	encoding, err := m.Tokenizer.Encode(prompt, words)
	if err != nil {
		return nil, nil, 0, &InvalidError{Field: field, Reason: "cannot be read: " + err.Error(), Err: err}
	}
	residual = make([]float32, len(encoding.IDs)*width)
	named := make([]bool, len(subjects))
	for _, slot := range encoding.Slots {
		s := subjects[slot.Placeholder]
		named[slot.Placeholder] = true
		row := residual[slot.Position*width:][:width]
		for i, v := range s.WordEmbeddings[slot.Vector*width:][:width] {
			row[i] = float32(s.Scale) * v
		}
	}
	for i, s := range subjects {
		if !named[i] {
			return nil, nil, 0, invalid(field, "does not name <%s>", s.Word)
		}
	}
	return encoding.IDs, residual, encoding.Truncated, nil
}

// textCache keeps the text states of the prompts used last: previews, pictures of one request and guidance share them.
type textCache struct {
	mu      sync.Mutex
	order   *list.List // of *textEntry, the last used in front
	entries map[[32]byte]*list.Element
	room    int
}

type textEntry struct {
	key    [32]byte
	states []float32
}

func newTextCache(room int) *textCache {
	return &textCache{order: list.New(), entries: map[[32]byte]*list.Element{}, room: room}
}

func (c *textCache) get(key [32]byte) ([]float32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(at)
	return at.Value.(*textEntry).states, true
}

func (c *textCache) put(key [32]byte, states []float32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		return
	}
	c.entries[key] = c.order.PushFront(&textEntry{key, states})
	if c.order.Len() > c.room {
		last := c.order.Back()
		delete(c.entries, c.order.Remove(last).(*textEntry).key)
	}
}

// textKey identifies what the text encoder reads.
func textKey(ids []int64, values ...[]float32) [32]byte {
	b := make([]byte, 0, 12*len(ids))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint64(b, uint64(id))
	}
	for _, list := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(list)))
		for _, v := range list {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	return sha256.Sum256(b)
}

//go:build torch

package tune

import (
	"context"
	"errors"
	"fmt"
	"math"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/tokenizer"
)

const tokenTable = "text_model.embeddings.token_embedding.weight"

// nouns are the token embeddings of a noun at the n slots of a word, [n, text width], as the text encoder reads them there, and the
// length of the longest embedding in the vocabulary.
func (b *Base) nouns(word, noun string, n int) (rows []float32, longest float64, err error) {
	folder, err := checkpoint.Open(b.dir)
	if err != nil {
		return nil, 0, err
	}
	defer folder.Close()
	text, err := folder.Component(checkpoint.TextEncoder)
	if err != nil {
		return nil, 0, err
	}
	table, _, err := text.Float32(tokenTable)
	if err != nil {
		return nil, 0, err
	}
	width := b.Text.HiddenSize
	e, err := b.tokenizer.Encode("<"+word+">", []tokenizer.Placeholder{{Word: word, Class: noun, Vectors: n}})
	if err != nil {
		return nil, 0, err
	}
	rows = make([]float32, n*width)
	for _, slot := range e.Slots {
		if (int(slot.ClassID)+1)*width > len(table) {
			return nil, 0, fmt.Errorf("%s: %s has no row for the tokenizer's %d", text.Path(), tokenTable, slot.ClassID)
		}
		copy(rows[slot.Vector*width:], table[int(slot.ClassID)*width:][:width])
	}
	for i := 0; i < len(table); i += width {
		square := 0.0
		for _, v := range table[i : i+width] {
			square += float64(v) * float64(v)
		}
		longest = max(longest, math.Sqrt(square))
	}
	return rows, longest, nil
}

// wordsOf are first vectors, which make the word the init noun.
func (b *Base) wordsOf(cfg Config) ([]float32, error) {
	class, _, err := b.nouns(cfg.Word, cfg.Class, cfg.Vectors)
	if err != nil {
		return nil, err
	}
	vectors, _, err := b.nouns(cfg.Word, cfg.Init, cfg.Vectors)
	if err != nil {
		return nil, err
	}
	for i := range vectors {
		vectors[i] -= class[i]
	}
	return vectors, nil
}

// predict is what the encoder says of the first photos.
func (b *Base) predict(ctx context.Context, cfg Config, photos []Photo) (*concept.Concept, error) {
	if b.encoder == nil {
		return nil, errors.New(b.dir + " has no encoder to start from: use lora or textual-inversion, or train one with `training encoder`")
	}
	var seen []*encoder.Photo
	for _, p := range photos[:min(len(photos), encoder.MaxPhotos)] {
		seen = append(seen, p.Seen)
	}
	return b.encoder.Encode(ctx, seen, cfg.Word, cfg.Class)
}

package pipeline

import (
	"strings"

	"likeness/models/tokenizer"
)

// maxChunks bounds how many runs of the text encoder's context a prompt takes up; what goes beyond is dropped.
const maxChunks = 8

// wording is a prompt as the text encoders read it.
type wording struct {
	subjects  []Subject // that act on it
	encodings []tokenizer.Encoding
	// residuals are what the subjects' words add to the token embeddings: of each text encoder [layers][chunks·L, D], where all layers are one
	// unless a word differs between them.
	residuals [][][]float32
}

// layers is how many text states the wording has for one place: one, or those of a word that differs between layers.
func (w *wording) layers() int { return len(w.residuals[0]) }

// read reads a prompt with its weights and the words of its subjects.
func (m *Model) read(field, prompt string, subjects []Subject) (*wording, error) {
	parts, err := tokenizer.ParseWeights(prompt)
	if err != nil {
		return nil, unreadable(field, err)
	}
	var spoken []Subject
	var words []tokenizer.Placeholder
	layers := 1
	for _, s := range subjects {
		if s.WordEmbeddings != nil {
			spoken = append(spoken, s)
			words = append(words, tokenizer.Placeholder{Word: s.Word, Class: s.Class, Vectors: s.vectors(m)})
			layers = max(layers, s.WordLayers)
			continue
		}
		for i := range parts {
			parts[i].Text = strings.ReplaceAll(parts[i].Text, "<"+s.Word+">", s.Class)
		}
	}
	w := &wording{subjects: subjects}
	named := make([]bool, len(spoken))
	first := 0 // column of the embeddings at which the text encoder's begin
	for _, t := range m.encoders {
		encoding, err := t.tokenizer.EncodeChunks(parts, words, maxChunks)
		if err != nil {
			return nil, unreadable(field, err)
		}
		width := t.config.HiddenSize
		residuals := make([][]float32, layers)
		for layer := range residuals {
			residuals[layer] = make([]float32, len(encoding.IDs)*width)
			for _, slot := range encoding.Slots {
				s := spoken[slot.Placeholder]
				named[slot.Placeholder] = true
				row := residuals[layer][slot.Position*width:][:width]
				for i, v := range s.vector(m, layer, slot.Vector)[first:][:width] {
					row[i] = float32(s.Scale) * v
				}
			}
		}
		first += width
		w.encodings, w.residuals = append(w.encodings, encoding), append(w.residuals, residuals)
	}
	for i, s := range spoken {
		if !named[i] {
			return nil, invalid(field, "does not name <%s>", s.Word)
		}
	}
	m.pad(w, m.chunks(w))
	return w, nil
}

func unreadable(field string, err error) error {
	return &InvalidError{Field: field, Reason: "cannot be read: " + err.Error(), Err: err}
}

// chunks is the largest count of chunks that a text encoder reads the wording in.
func (m *Model) chunks(w *wording) int {
	most := 0
	for i, t := range m.encoders {
		most = max(most, len(w.encodings[i].IDs)/t.tokenizer.MaxLength())
	}
	return most
}

// pad adds empty chunks to the wording until every text encoder has so many.
func (m *Model) pad(w *wording, chunks int) {
	for i, t := range m.encoders {
		t.tokenizer.Pad(&w.encodings[i], chunks)
		for layer, residual := range w.residuals[i] {
			missing := len(w.encodings[i].IDs)*t.config.HiddenSize - len(residual)
			w.residuals[i][layer] = append(residual, make([]float32, missing)...)
		}
	}
}

// truncated is how many tokens of the wording did not fit.
func (w *wording) truncated() int {
	most := 0
	for _, e := range w.encodings {
		most = max(most, e.Truncated)
	}
	return most
}

package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// Placeholder is a word that, written <word> in a prompt, stands for Vectors consecutive embeddings.
type Placeholder struct {
	Word    string // without the brackets
	Class   string // the noun it is an instance of, such as "face"; its tokens fill the slots
	Vectors int    // ≥ 1
}

// Slot is one position of an encoding whose embedding the caller supplies.
type Slot struct {
	Placeholder int   // index into Encode's placeholders
	Vector      int   // 0 … Vectors-1
	Position    int   // index into Encoding.IDs
	ClassID     int64 // the class token whose id stands at Position
}

// Encoding is a prompt ready for a text encoder, which reads it in chunks of MaxLength ids.
type Encoding struct {
	IDs       []int64   // of each chunk: start, its share of the prompt, end, padding
	Weights   []float32 // of each id, 1 but in weighted text; nil where all are 1
	Slots     []Slot    // in order of Position
	Truncated int       // tokens dropped from the prompt's end, 0 if it fits
}

// ErrTooLong reports a prompt that cannot be encoded without losing a placeholder, or is absurdly long.
type ErrTooLong struct {
	Word  string // the placeholder that would be cut; empty if the prompt has too many bytes
	Limit int    // tokens (or, without Word, bytes) that fit
}

func (e *ErrTooLong) Error() string {
	if e.Word == "" {
		return fmt.Sprintf("prompt is over %d bytes: shorten it", e.Limit)
	}
	return fmt.Sprintf("prompt is too long: <%s> lies beyond the %d tokens that fit; shorten the prompt or move <%s> forward", e.Word, e.Limit, e.Word)
}

// Encode turns a prompt into MaxLength ids, one chunk. Every <word> of a placeholder becomes its slots; text that does not fit is
// dropped from the end, but a cut placeholder is an *ErrTooLong.
func (t *Tokenizer) Encode(prompt string, placeholders []Placeholder) (Encoding, error) {
	return t.EncodeChunks([]Part{{prompt, 1}}, placeholders, 1)
}

// EncodeChunks is Encode for weighted text of any length up to most chunks; the slots of a placeholder stay within one, which may leave
// the chunk before shorter.
func (t *Tokenizer) EncodeChunks(parts []Part, placeholders []Placeholder, most int) (Encoding, error) {
	classes, err := t.classes(placeholders)
	if err != nil {
		return Encoding{}, err
	}
	w := chunkWriter{t: t, most: most}
	w.open()
	length := 0
	for _, part := range parts {
		if length += len(part.Text); length > maxPromptBytes {
			return Encoding{}, &ErrTooLong{Limit: maxPromptBytes}
		}
		for text := part.Text; text != ""; {
			at, which := nextPlaceholder(text, placeholders)
			for _, id := range t.Tokens(text[:at]) {
				if !w.write(part.Weight, id) {
					w.e.Truncated++
				}
			}
			if which < 0 {
				break
			}
			p := placeholders[which]
			text = text[at+len(p.Word)+2:]
			ids := make([]int64, p.Vectors)
			for v := range ids {
				ids[v] = classID(classes[which], v, p.Vectors)
			}
			if w.e.Truncated > 0 || !w.write(part.Weight, ids...) {
				return Encoding{}, &ErrTooLong{Word: p.Word, Limit: most * (t.maxLength - 2)}
			}
			for v, id := range ids {
				w.e.Slots = append(w.e.Slots, Slot{Placeholder: which, Vector: v, Position: len(w.e.IDs) - len(ids) + v, ClassID: id})
			}
		}
	}
	w.close()
	return w.e, nil
}

// classes are the tokens of each placeholder's class.
func (t *Tokenizer) classes(placeholders []Placeholder) ([][]int64, error) {
	classes := make([][]int64, len(placeholders))
	for i, p := range placeholders {
		if p.Word == "" || p.Vectors < 1 {
			return nil, fmt.Errorf("placeholder %q with %d vectors: needs a word and at least one vector", p.Word, p.Vectors)
		}
		if classes[i] = t.Tokens(p.Class); len(classes[i]) == 0 {
			return nil, fmt.Errorf("placeholder <%s>: class %q has no tokens", p.Word, p.Class)
		}
	}
	return classes, nil
}

// Pad adds empty chunks to e until there are chunks of them.
func (t *Tokenizer) Pad(e *Encoding, chunks int) {
	w := chunkWriter{t: t, e: *e}
	for w.chunks = len(e.IDs) / t.maxLength; w.chunks < chunks; {
		w.open()
		w.close()
	}
	*e = w.e
}

// chunkWriter fills an Encoding chunk by chunk.
type chunkWriter struct {
	t      *Tokenizer
	e      Encoding
	chunks int // begun
	most   int
	used   int // tokens of the open chunk
}

// open begins a chunk.
func (w *chunkWriter) open() {
	w.chunks++
	w.used = 0
	w.put(w.t.start.id, 1)
}

// close ends the open chunk.
func (w *chunkWriter) close() {
	w.put(w.t.end.id, 1)
	for len(w.e.IDs) < w.chunks*w.t.maxLength {
		w.put(w.t.pad, 1)
	}
}

// write puts ids into one chunk; where there is no room it tells so and writes none.
func (w *chunkWriter) write(weight float64, ids ...int64) bool {
	room := w.t.maxLength - 2
	if w.used+len(ids) > room {
		if w.chunks == w.most || len(ids) > room {
			return false
		}
		w.close()
		w.open()
	}
	w.used += len(ids)
	for _, id := range ids {
		w.put(id, weight)
	}
	return true
}

func (w *chunkWriter) put(id int64, weight float64) {
	if weight != 1 && w.e.Weights == nil {
		w.e.Weights = slices.Repeat([]float32{1}, len(w.e.IDs))
	}
	w.e.IDs = append(w.e.IDs, id)
	if w.e.Weights != nil {
		w.e.Weights = append(w.e.Weights, float32(weight))
	}
}

// nextPlaceholder finds the first <word> in text: its byte offset and index, or len(text) and -1.
func nextPlaceholder(text string, placeholders []Placeholder) (at, which int) {
	at, which = len(text), -1
	for i, p := range placeholders {
		if j := strings.Index(text, "<"+p.Word+">"); j >= 0 && j < at {
			at, which = j, i
		}
	}
	return at, which
}

// classID spreads a class's tokens over n slots, the last token on the last slot: it is the one that ends the noun.
func classID(class []int64, v, n int) int64 {
	return class[max(0, len(class)-n+v)]
}

package tokenizer

import (
	"fmt"
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

// Encoding is a prompt ready for a text encoder.
type Encoding struct {
	IDs       []int64 // MaxLength ids: start, prompt, end, padding
	Slots     []Slot  // in order of Position
	Truncated int     // tokens dropped from the prompt's end, 0 if it fits
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

// Encode turns a prompt into MaxLength ids. Every <word> of a placeholder becomes its slots; text that does not fit is
// dropped from the end, but a cut placeholder is an *ErrTooLong.
func (t *Tokenizer) Encode(prompt string, placeholders []Placeholder) (Encoding, error) {
	if len(prompt) > maxPromptBytes {
		return Encoding{}, &ErrTooLong{Limit: maxPromptBytes}
	}
	classes := make([][]int64, len(placeholders))
	for i, p := range placeholders {
		if p.Word == "" || p.Vectors < 1 {
			return Encoding{}, fmt.Errorf("placeholder %q with %d vectors: needs a word and at least one vector", p.Word, p.Vectors)
		}
		if classes[i] = t.Tokens(p.Class); len(classes[i]) == 0 {
			return Encoding{}, fmt.Errorf("placeholder <%s>: class %q has no tokens", p.Word, p.Class)
		}
	}
	room := t.maxLength - 2
	var e Encoding
	ids := []int64{}
	for prompt != "" {
		at, which := nextPlaceholder(prompt, placeholders)
		ids = append(ids, t.Tokens(prompt[:at])...)
		if which < 0 {
			break
		}
		p := placeholders[which]
		prompt = prompt[at+len(p.Word)+2:]
		for v := range p.Vectors {
			id := classID(classes[which], v, p.Vectors)
			e.Slots = append(e.Slots, Slot{Placeholder: which, Vector: v, Position: len(ids) + 1, ClassID: id})
			ids = append(ids, id)
		}
		if len(ids) > room {
			return Encoding{}, &ErrTooLong{Word: p.Word, Limit: room}
		}
	}
	if len(ids) > room {
		e.Truncated = len(ids) - room
		ids = ids[:room]
	}
	e.IDs = append(append(append(make([]int64, 0, t.maxLength), t.start.id), ids...), t.end.id)
	for len(e.IDs) < t.maxLength {
		e.IDs = append(e.IDs, t.pad)
	}
	return e, nil
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

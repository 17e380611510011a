package tune

import (
	"strings"

	"likeness/models/tokenizer"
)

// subjectPlace is where a caption has its subject.
const subjectPlace = "{}"

// Captions are templates by what the photos show. Several wordings keep the concept from being bound to one.
var Captions = map[string][]string{
	"portrait": {"{}", "a portrait of {}", "{}"},
	"photo": {"a photo of {}", "a cropped photo of {}", "the photo of {}", "a close-up photo of {}", "a bright photo of {}", "a dark photo of {}",
		"a good photo of {}", "a photo of one {}", "a rendition of {}", "a depiction of {}"},
}

// caption is an encoded caption.
type caption struct {
	ids    []int64   // [L]
	slots  []float32 // [L, n]: one where a vector of the word stands
	states []float32 // [L·D] of the text encoder, where nothing that is learned acts on them
}

// slotsOf are the slots among the vectors of all layers, [L, layers·n]: one where a vector of the layer stands.
func (c caption) slotsOf(layer, layers int) []float32 {
	if layers == 1 {
		return c.slots
	}
	n := len(c.slots) / len(c.ids)
	all := make([]float32, layers*len(c.slots))
	for i, one := range c.slots {
		all[(i/n*layers+layer)*n+i%n] = one
	}
	return all
}

// encode encodes a template about a word of n vectors or, where there are none, about the class noun itself.
func encode(tok *tokenizer.Tokenizer, template, word, class string, n int) (caption, error) {
	subject, placeholders := class, []tokenizer.Placeholder(nil)
	if n > 0 {
		subject, placeholders = "<"+word+">", []tokenizer.Placeholder{{Word: word, Class: class, Vectors: n}}
	}
	e, err := tok.Encode(strings.ReplaceAll(template, subjectPlace, subject), placeholders)
	if err != nil {
		return caption{}, err
	}
	c := caption{ids: e.IDs, slots: make([]float32, len(e.IDs)*n)}
	for _, slot := range e.Slots {
		c.slots[slot.Position*n+slot.Vector] = 1
	}
	return c, nil
}

package evaluate

import (
	"context"
	"fmt"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/pipeline"
	"likeness/training/portraits"
)

// Method is a way to bring a person into pictures; each is a row of the table.
type Method interface {
	Name() string
	// Prepare is what the method does once for a person, its time is measured. photos are encoder.MaxPhotos pictures of the person, of which
	// it may read fewer, or none.
	Prepare(ctx context.Context, id portraits.Identity, photos []*encoder.Photo) (Person, error)
}

// Person is how requests speak of a person once a method is prepared.
type Person struct {
	// Prompt is the prompt for a context.
	Prompt   func(c portraits.Context) string
	Subjects []pipeline.Subject
	Bytes    int // what has to be stored for the person
}

// prompted uses words alone.
type prompted struct {
	name   string
	prompt func(id portraits.Identity, c portraits.Context) string
}

func (m prompted) Name() string { return m.name }

func (m prompted) Prepare(_ context.Context, id portraits.Identity, _ []*encoder.Photo) (Person, error) {
	prompt := func(c portraits.Context) string { return m.prompt(id, c) }
	return Person{Prompt: prompt, Bytes: 0}, nil
}

// PromptAlone asks for anybody in the context.
func PromptAlone() Method {
	return prompted{"prompt alone", func(_ portraits.Identity, c portraits.Context) string { return portraits.Prompt(c, "a face") }}
}

// PromptWithTraits describes the person by all traits that have words.
func PromptWithTraits() Method {
	return prompted{"prompt with all nameable traits", portraits.FullCaption}
}

const (
	word  = "me"
	class = "face"
)

type encoded struct {
	encoder *encoder.Encoder
	photos  int
}

// Encoded encodes the first of the photos to a concept.
func Encoded(e *encoder.Encoder, photos int) Method { return encoded{e, photos} }

func (m encoded) Name() string {
	if m.photos == 1 {
		return "encoder, 1 photo"
	}
	return fmt.Sprintf("encoder, %d photos", m.photos)
}

func (m encoded) Prepare(ctx context.Context, _ portraits.Identity, photos []*encoder.Photo) (Person, error) {
	c, err := m.encoder.Encode(ctx, photos[:m.photos], word, class)
	if err != nil {
		return Person{}, err
	}
	return concepted(c, m.encoder)
}

// concepted is the person of a concept under word.
func concepted(c *concept.Concept, e *encoder.Encoder) (Person, error) {
	offsets, err := e.Expand(c)
	if err != nil {
		return Person{}, err
	}
	data, err := c.Marshal()
	if err != nil {
		return Person{}, err
	}
	return Person{
		Prompt:   func(c portraits.Context) string { return portraits.Prompt(c, "<"+word+">") },
		Subjects: []pipeline.Subject{{Word: word, Class: class, WordEmbeddings: c.WordEmbeddings.Data, Offsets: offsets, Scale: 1}},
		Bytes:    len(data),
	}, nil
}

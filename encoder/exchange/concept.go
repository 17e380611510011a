package exchange

import (
	"fmt"
	"time"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/op"
)

// MethodLoRA is the method of a concept that was a published LoRA, which acts on the negative prompt as well.
const MethodLoRA = "lora"

// Concept makes the adapter a concept of the base: its changes as they are, its word's vectors as differences to the class noun's.
func (a *Adapter) Concept(base *Base) (*concept.Concept, error) {
	c := &concept.Concept{Word: a.Word, Class: a.Class, Method: string(a.Format), BaseModel: base.Fingerprint, Created: time.Now().UTC(), LoRA: a.LoRA}
	if len(a.LoRA) > 0 {
		c.Method = MethodLoRA
	}
	if len(a.Embeddings) > 0 {
		n := len(a.Embeddings) / base.TextWidth
		nouns, err := base.classEmbeddings(a.Word, a.Class, n)
		if err != nil {
			return nil, err
		}
		for i, v := range a.Embeddings {
			nouns[i] = v - nouns[i]
		}
		c.WordEmbeddings = concept.Embeddings{Layers: 1, Vectors: n, Width: base.TextWidth, Data: nouns}
	}
	return c, nil
}

// FromConcept gives what a concept of the base holds; offsets are its own or those that its coefficients expand to, of the layout.
func FromConcept(c *concept.Concept, layout *op.Layout, offsets []float32, base *Base) (*Adapter, error) {
	if len(c.ImageTokens.Data) > 0 {
		return nil, unfit("<%s> was made by an IP-Adapter: no exchange format holds its image tokens", c.Word)
	}
	if len(c.Edit.Probe) > 0 {
		return nil, unfit("<%s> changes layers where a gate says so (Perfusion): no exchange format holds gates", c.Word)
	}
	a := &Adapter{Word: c.Word, Class: c.Class, LoRA: c.LoRA}
	if len(offsets) > 0 {
		unet, err := Unpack(layout, offsets)
		if err != nil {
			return nil, fmt.Errorf("concept <%s>: %w", c.Word, err)
		}
		a.LoRA = concept.LoRA{checkpoint.UNet: unet}
	}
	for component, deltas := range a.LoRA {
		for path, d := range deltas {
			if in, out, ok := width(base.Shapes[component][path]); !ok || in != d.In || out != d.Out {
				return nil, unfit("<%s> changes %s [%d, %d] of the %s, which is no layer of the base model's blocks", c.Word, path, d.Out, d.In, component)
			}
		}
	}
	e := c.WordEmbeddings
	switch {
	case len(e.Data) == 0:
		return a, nil
	case e.Layers > 1:
		return nil, unfit("the word <%s> differs between %d layers, which no exchange format but sd-scripts' XTI holds", c.Word, e.Layers)
	case e.Width != base.TextWidth:
		return nil, unfit("the word <%s> has width %d, the base model's %d", c.Word, e.Width, base.TextWidth)
	}
	nouns, err := base.classEmbeddings(c.Word, c.Class, e.Vectors)
	if err != nil {
		return nil, err
	}
	for i, v := range e.Data {
		nouns[i] += v
	}
	a.Embeddings = nouns
	return a, nil
}

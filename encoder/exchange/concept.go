package exchange

import (
	"fmt"
	"time"

	"likeness/encoder/concept"
	"likeness/models/op"
)

// MethodLoRA is the method of a concept that was a published LoRA, which acts on the negative prompt as well.
const MethodLoRA = "lora"

// Concept makes the adapter a concept of the base: its deltas as offsets of the layouts of the UNet and the text encoder (see Pack), its
// word's vectors as differences to the class noun's. A layout that it does not need may be nil.
func (a *Adapter) Concept(base *Base, unet, text *op.Layout) (*concept.Concept, error) {
	c := &concept.Concept{Word: a.Word, Class: a.Class, Method: string(a.Format), BaseModel: base.Fingerprint, Created: time.Now().UTC()}
	if a.Format == Kohya || a.Format == Diffusers {
		c.Method = MethodLoRA
	}
	for _, p := range []struct {
		layout  *op.Layout
		deltas  map[string]Delta
		offsets *[]float32
		digest  *string
	}{{unet, a.UNet, &c.Offsets, &c.Layout}, {text, a.Text, &c.TextOffsets, &c.TextLayout}} {
		if len(p.deltas) == 0 {
			continue
		}
		var err error
		if *p.offsets, err = Pack(p.layout, p.deltas); err != nil {
			return nil, err
		}
		*p.digest = p.layout.Digest()
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
	a := &Adapter{Word: c.Word, Class: c.Class}
	if len(offsets) > 0 {
		var err error
		if a.UNet, err = Unpack(layout, offsets); err != nil {
			return nil, fmt.Errorf("concept <%s>: %w", c.Word, err)
		}
	}
	for path := range a.UNet {
		if base.UNet[path] == nil {
			return nil, fmt.Errorf("concept <%s>: it changes %s, which is no layer of the base model's blocks", c.Word, path)
		}
	}
	e := c.WordEmbeddings
	switch {
	case len(c.TextOffsets) > 0:
		return nil, fmt.Errorf("concept <%s>: it was a LoRA on the text encoder too: export the file that it was read from", c.Word)
	case len(e.Data) == 0:
		return a, nil
	case e.Layers > 1:
		return nil, fmt.Errorf("concept <%s>: its word differs between %d layers, which no exchange format but sd-scripts' XTI holds", c.Word, e.Layers)
	case e.Width != base.TextWidth:
		return nil, fmt.Errorf("concept <%s>: its word has width %d, the base model's %d", c.Word, e.Width, base.TextWidth)
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

package main

import (
	"math"
	"net/http"
	"strings"
	"testing"

	"likeness/encoder/concept"
)

// layeredConcept is made up, with a word for each of so many cross-attentions.
func layeredConcept(base string, layers int) *concept.Concept {
	words := concept.Embeddings{Layers: layers, Vectors: 1, Width: 16, Data: make([]float32, layers*16)}
	for i := range words.Data {
		words.Data[i] = float32(math.Sin(float64(i * i)))
	}
	return &concept.Concept{Word: "deep", Class: "cat", Method: "extended", BaseModel: base, WordEmbeddings: words}
}

// A concept with a word for each cross-attention has the server open its model again, draws what the command draws, and leaves others alone.
func TestLayeredConcept(t *testing.T) {
	pack := tinyPack(t)
	url, m := serveFiles(t, pack)
	if status, made := upload(t, url, "me", mustRead(t, sample(t, "ada.png"))); status != http.StatusCreated {
		t.Fatal(status, made)
	}
	face := draws(t, url, "<me> hi")
	c := layeredConcept(m.current.base.Fingerprint, m.current.base.UNet.TextLayers())
	path := offer(t, url, c, "1 word vectors of width 16 for each of 4 cross-attentions")
	got := draws(t, url, "<deep> hat")
	if d := apartBy(t, commanded(t, pack, "<deep> hat", path), got); d > 1 {
		t.Errorf("server and command differ by %d grey levels", d)
	}
	if !m.reach.LayeredText || len(m.reach.Offsets) > 0 {
		t.Errorf("the model was opened with %+v", m.reach)
	}
	if d := apartBy(t, face, draws(t, url, "<me> hi")); d > 1 {
		t.Errorf("the model that was opened again draws another face, by %d", d)
	}
	c.WordEmbeddings.Layers, c.WordEmbeddings.Data = 1, c.WordEmbeddings.Data[:16]
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	if d := apartBy(t, got, commanded(t, pack, "<deep> hat", path)); d < 3 {
		t.Errorf("the other layers' words change the picture by %d", d)
	}
}

// A concept of another number of cross-attentions is refused with both numbers; no other format holds a layered word.
func TestLayeredConceptRefused(t *testing.T) {
	url, m := serveFiles(t, tinyPack(t))
	other, err := layeredConcept(m.current.base.Fingerprint, 3).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := "of 3 cross-attentions, this model has 4"
	if _, made := uploadFile(t, url, "deep.safetensors", other); !strings.Contains(errorMessage(made), want) {
		if status, answer := post(t, url+"/v1/images/generations", "application/json", []byte(`{"prompt":"<deep>"}`)); status < 400 || !strings.Contains(errorMessage(answer), want) {
			t.Errorf("%d: %v", status, answer)
		}
	}
	own := layeredConcept(m.current.base.Fingerprint, 4)
	for _, format := range []string{"embedding", "kohya", "diffusers"} {
		if _, err := m.Export(own, format); err == nil || !strings.Contains(err.Error(), "differs between 4 layers") {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func errorMessage(answer map[string]any) string {
	problem, _ := answer["error"].(map[string]any)
	message, _ := problem["message"].(string)
	return message
}

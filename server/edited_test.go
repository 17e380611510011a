package main

import (
	"image/png"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/unet"
)

// editedConcept is made up, with gated changes of a UNet.
func editedConcept(base string, cfg unet.Config) *concept.Concept {
	seed := 0
	numbers := func(n int, size float64) []float32 {
		seed++
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(size * math.Sin(float64(seed+i*i)))
		}
		return values
	}
	c := &concept.Concept{Word: "gated", Class: "cat", Method: "perfusion", BaseModel: base,
		WordEmbeddings: concept.Embeddings{Layers: 1, Vectors: 1, Width: cfg.TextWidth(), Data: numbers(cfg.TextWidth(), 1)},
		Edit:           concept.Edit{Probe: numbers(cfg.TextWidth(), 0.3), Layers: map[string]concept.Rows{}}}
	for _, t := range cfg.EditTargets() {
		c.Edit.Layers[t.Path] = concept.Rows{Input: numbers(t.Out, 0.5), Output: numbers(t.Out, 1)}
	}
	return c
}

// offer uploads a concept of whose file inspect tells the detail and which other formats do not hold, and returns the file's path.
func offer(t *testing.T, url string, c *concept.Concept, detail string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), c.Word+".safetensors")
	if err := c.Write(path); err != nil {
		t.Fatal(err)
	}
	if r, err := inspectConcept(path); err != nil || !slices.Contains(r.Details, detail) {
		t.Error(r, err)
	}
	status, made := uploadFile(t, url, filepath.Base(path), mustRead(t, path))
	if status != http.StatusCreated || len(made["formats"].([]any)) != 0 {
		t.Fatal(status, made)
	}
	return path
}

// A concept with gated changes has the server open its model again, and draws what the command draws, at the gate that is asked for.
func TestEditedConcept(t *testing.T) {
	pack := tinyPack(t)
	url, m := serveFiles(t, pack)
	c := editedConcept(m.current.base.Fingerprint, m.current.base.UNet)
	path := offer(t, url, c, "gated changes of 8 layers")
	want := commanded(t, pack, "a <gated> hat", path)
	if d := apartBy(t, want, draws(t, url, "a <gated> hat")); d > 1 || !m.reach.Edits {
		t.Errorf("server and command differ by %d grey levels; the model was opened with %+v", d, m.reach)
	}
	status, answer := post(t, url+"/v1/images/generations", "application/json",
		[]byte(`{"prompt":"a <gated> hat","seed":7,"steps":4,"response_format":"url","gate_bias":0.2,"gate_temperature":1}`))
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	open, err := png.Decode(strings.NewReader(fetch(t, answer["data"].([]any)[0].(map[string]any)["url"].(string))))
	if err != nil {
		t.Fatal(err)
	}
	if d := apartBy(t, want, open); d < 2 {
		t.Errorf("another gate changes the picture by %d", d)
	}
	for _, format := range []string{"embedding", "kohya", "diffusers"} {
		if _, err := m.Export(c, format); err == nil || !strings.Contains(err.Error(), "no exchange format holds gates") {
			t.Errorf("%s: %v", format, err)
		}
	}
	delete(c.Edit.Layers, m.current.base.UNet.EditTargets()[0].Path)
	if _, err := m.Subject(c, 1); err == nil || !strings.Contains(err.Error(), "this model has 8 layers") {
		t.Errorf("one layer less: %v", err)
	}
}

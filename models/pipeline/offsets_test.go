package pipeline_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// openWide is open with offsets on a layer of the text encoder too.
func openWide(t *testing.T) *pipeline.Engine {
	t.Helper()
	wide := backend
	wide.Reach.Offsets = map[string][]op.Target{checkpoint.TextEncoder: {{Path: "text_model.encoder.layers.0.self_attn.v_proj", In: 16, Out: 16}}}
	m, err := pipeline.Open(tinySD, wide)
	if err != nil {
		t.Fatal(err)
	}
	e := pipeline.NewEngine(m, pipeline.EngineConfig{})
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// Offsets of several vectors end to end are those vectors summed, in the UNet and in the text encoder; a subject without a word needs
// not be named, and where it is, its class noun stands there.
func TestVectorsEndToEnd(t *testing.T) {
	e := openWide(t)
	m := e.Model()
	a, b := noise(m.Layout.Size(), 0.5, 1), noise(m.Layout.Size(), 0.5, 2)
	text := m.TextLayouts[checkpoint.TextEncoder]
	words := func(values []float32) map[string]pipeline.Packed {
		return map[string]pipeline.Packed{checkpoint.TextEncoder: {Values: values}}
	}
	u, v := noise(text.Size(), 0.5, 3), noise(text.Size(), 0.5, 4)
	draw := func(prompt string, subjects ...pipeline.Subject) []float32 {
		return generate(t, e, pipeline.Request{Prompt: prompt, Seed: 1, Steps: 3, GuidanceScale: 1, Subjects: subjects}).Latents.F32
	}
	both := pipeline.Subject{Word: "style", Class: "drawing", Scale: 0.5, Offsets: append(a[:len(a):len(a)], b...), TextOffsets: words(append(u[:len(u):len(u)], v...))}
	one, two := both, both
	one.Offsets, one.TextOffsets = a, words(u)
	two.Word, two.Offsets, two.TextOffsets = "other", b, words(v)
	whole := draw("a drawing of a cat", both)
	if d := furthest(t, whole, draw("a drawing of a cat", one, two)); d > 1e-4 {
		t.Errorf("two vectors of one subject are %g from two subjects with one each", d)
	}
	if d := furthest(t, whole, draw("a <style> of a cat", both)); d != 0 {
		t.Errorf("a word that stands for its noun is %g from the noun", d)
	}
	plain := draw("a drawing of a cat")
	alone := both
	alone.Offsets = nil
	for name, other := range map[string][]float32{"no subject": plain, "one vector": draw("a drawing of a cat", one), "text offsets": draw("a drawing of a cat", alone)} {
		if furthest(t, whole, other) < 1e-3 {
			t.Errorf("%s makes no difference", name)
		}
	}
	alone.Scale = 0
	if d := furthest(t, plain, draw("a drawing of a cat", alone)); d != 0 {
		t.Errorf("scale 0 is %g from no subject", d)
	}
}

// A subject that is packed draws what it drew, and is packed once; what the model's layout cannot hold stays as it is.
func TestPack(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	m := e.Model()
	own, err := op.NewLayout(m.Layout.Rank+1, m.Layout.Targets()[:1])
	if err != nil {
		t.Fatal(err)
	}
	s := pipeline.Subject{Word: "me", Class: "cat", Scale: 1, Layout: own, Offsets: noise(own.Size(), 0.5, 1), Everywhere: true}
	packed := m.Pack(s)
	if packed.Layout != m.Layout || len(packed.Offsets) != 2*m.Layout.Size() {
		t.Fatalf("%d offsets", len(packed.Offsets))
	}
	if again := m.Pack(packed); &again.Offsets[0] != &packed.Offsets[0] || again.Layout != m.Layout {
		t.Error("what is packed is packed again")
	}
	draw := func(s pipeline.Subject) []float32 {
		return generate(t, e, pipeline.Request{Prompt: "a cat", Seed: 1, Steps: 2, Subjects: []pipeline.Subject{s}}).Latents.F32
	}
	before := slices.Clone(packed.Offsets)
	if d := furthest(t, draw(s), draw(packed)); d != 0 {
		t.Errorf("packing changes the picture by %g", d)
	}
	if !slices.Equal(before, packed.Offsets) {
		t.Error("drawing changed the subject's offsets")
	}
	none := s
	none.Offsets = make([]float32, own.Size())
	elsewhere, err := op.NewLayout(1, []op.Target{{Path: "nowhere", In: 2, Out: 2}})
	if err != nil {
		t.Fatal(err)
	}
	other := s
	other.Layout, other.Offsets = elsewhere, []float32{1, 1, 1, 1}
	for _, s := range []pipeline.Subject{none, other} {
		if left := m.Pack(s); left.Layout != s.Layout || &left.Offsets[0] != &s.Offsets[0] {
			t.Errorf("%d offsets became %d", len(s.Offsets), len(left.Offsets))
		}
	}
}

func TestOffsetsThatDoNotFit(t *testing.T) {
	e := open(t, pipeline.EngineConfig{}) // without a text layout
	for name, s := range map[string]pipeline.Subject{
		"nothing":      {},
		"one too many": {Offsets: make([]float32, e.Model().Layout.Size()+1)},
		"text":         {TextOffsets: map[string]pipeline.Packed{checkpoint.TextEncoder: {Values: make([]float32, 4)}}},
		"infinite":     {Offsets: append(make([]float32, e.Model().Layout.Size()-1), float32(math.Inf(1)))},
	} {
		s.Word, s.Class, s.Scale = "me", "cat", 1
		_, err := e.Generate(t.Context(), pipeline.Request{Prompt: "a cat", Subjects: []pipeline.Subject{s}}, nil)
		var invalid *pipeline.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "subjects" || !strings.Contains(err.Error(), "<me>") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

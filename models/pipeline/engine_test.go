package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// TestTogether makes each picture alone, then all of them at once: other prompts, subjects, steps, samplers and sizes
// in the same turns change nothing. Offsets of one that act everywhere are one row for both of its own when it is alone.
func TestTogether(t *testing.T) {
	alone := open(t, pipeline.EngineConfig{MaxBatch: 1})
	crowd := open(t, pipeline.EngineConfig{MaxBatch: 5})
	ann, bob := subject(alone, "ann", 3), subject(alone, "bob", 8)
	var requests []pipeline.Request
	for i := range 9 {
		r := pipeline.Request{Prompt: "a drawing of <ann> wearing a hat", Subjects: []pipeline.Subject{ann}, Seed: uint64(i), Steps: 3 + i}
		r.Owner = fmt.Sprint(i % 4)
		switch i % 3 {
		case 1:
			r.Prompt, r.Subjects, r.GuidanceScale = "a red cat", nil, 1
		case 2:
			r.Prompt, r.Subjects, r.Scheduler = "<ann> and <bob> on the beach", []pipeline.Subject{ann, bob}, "dpmsolver++"
		}
		if i == 4 {
			r.Width = 96
		}
		if i == 3 {
			r.Subjects = []pipeline.Subject{ann}
			r.Subjects[0].Everywhere = true
		}
		requests = append(requests, r)
	}
	together := generateTogether(t, crowd, requests)
	for i, r := range requests {
		if d := furthest(t, together[i].Latents.F32, generate(t, alone, r).Latents.F32); d > 1e-4 {
			t.Errorf("request %d: latents differ by %g from those made alone", i, d)
		}
	}
}

// generateTogether is generate for requests that are all under way at once.
func generateTogether(t *testing.T, e *pipeline.Engine, requests []pipeline.Request) []*pipeline.Result {
	t.Helper()
	results := make([]*pipeline.Result, len(requests))
	var wait sync.WaitGroup
	for i, r := range requests {
		wait.Go(func() {
			var err error
			if results[i], err = e.Generate(t.Context(), r, nil); err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return results
}

func TestScale(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	request := func(s pipeline.Subject) pipeline.Request {
		return pipeline.Request{Prompt: "a drawing of <me>", Subjects: []pipeline.Subject{s}, Seed: 5, Steps: 4}
	}
	s := subject(e, "me", 1)
	full := generate(t, e, request(s)).Latents.F32

	s.Scale = 0
	s.WordEmbeddings = s.WordEmbeddings[:e.Model().Text.HiddenSize]
	none := generate(t, e, request(s)).Latents.F32
	plain := generate(t, e, pipeline.Request{Prompt: "a drawing of cat", Seed: 5, Steps: 4}).Latents.F32
	if d := furthest(t, none, plain); d != 0 {
		t.Errorf("a subject of scale 0 changes the class word's picture by %g", d)
	}

	half := subject(e, "me", 1)
	half.Scale = 0.5
	byHand := subject(e, "me", 1) // the same, with the factor in its values: words whole, of the offsets the up half
	for i := range byHand.WordEmbeddings {
		byHand.WordEmbeddings[i] *= 0.5
	}
	layout := e.Model().Layout
	for _, target := range layout.Targets() {
		_, up, _ := layout.Span(target.Path)
		for i := range layout.Rank * target.Out {
			byHand.Offsets[up+i] *= 0.5
		}
	}
	weaker := generate(t, e, request(half)).Latents.F32
	if d := furthest(t, weaker, generate(t, e, request(byHand)).Latents.F32); d > 1e-5 {
		t.Errorf("scale 0.5 and halved values differ by %g", d)
	}
	if furthest(t, weaker, full) < 1e-2 || furthest(t, full, none) < 1e-2 {
		t.Error("the scale makes no difference")
	}
}

// TestOffsetsReachThePromptAlone: offsets reach the prompt's row only. With the words at scale one in both, guidance 1
// sees offsets in full; were the unconditional row offset too, its own difference would cancel.
func TestOffsetsReachThePromptAlone(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	s := subject(e, "me", 2)
	r := pipeline.Request{Prompt: "<me>", NegativePrompt: "a hat", Seed: 1, Steps: 1}
	s.WordEmbeddings = make([]float32, e.Model().Text.HiddenSize)
	s.Scale = 10
	plain, with := s, s
	plain.Offsets = nil
	latents := func(s pipeline.Subject, guidance float64) []float32 {
		r := r
		r.Subjects, r.GuidanceScale = []pipeline.Subject{s}, guidance
		return generate(t, e, r).Latents.F32
	}
	// One DDIM step is linear in the guided noise u + g(c-u), so the offsets' effect on it grows as g.
	one, oneWith, three, threeWith := latents(plain, 1), latents(with, 1), latents(plain, 3), latents(with, 3)
	for i := range one {
		if want, got := 3*(oneWith[i]-one[i]), threeWith[i]-three[i]; math.Abs(float64(want-got)) > 1e-3*(1+math.Abs(float64(want))) {
			t.Fatalf("latent %d: offsets change it by %g under guidance 3, want %g", i, got, want)
		}
	}
	if d := furthest(t, one, oneWith); d < 1e-2 {
		t.Errorf("offsets make a difference of %g", d)
	}
}

func TestEvents(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	var events []pipeline.Event
	_, err := e.Generate(context.Background(), pipeline.Request{Prompt: prompt, Steps: 7, PreviewEvery: 3, Width: 96}, func(ev pipeline.Event) {
		events = append(events, ev)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 7 {
		t.Fatalf("%d events", len(events))
	}
	for i, ev := range events {
		if ev.Step != i+1 || ev.Steps != 7 {
			t.Errorf("event %d says step %d of %d", i, ev.Step, ev.Steps)
		}
		if ev.Preview != nil && (ev.Step%3 != 0 || ev.Preview.Bounds().Dx() != 96 || ev.Preview.Bounds().Dy() != 64) {
			t.Errorf("step %d has a preview of %v", ev.Step, ev.Preview.Bounds())
		}
	}
}

// TestPreview: with one step to go, what the network expects is nearly the picture.
func TestPreview(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	var preview image.Image
	r := pipeline.Request{Prompt: prompt, Steps: 2, Seed: 3, PreviewEvery: 1, Scheduler: "dpmsolver++"}
	for preview == nil { // one that would come late is left out
		result, err := e.Generate(t.Context(), r, func(ev pipeline.Event) {
			if ev.Preview != nil {
				preview = ev.Preview
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if preview != nil && preview.Bounds() != result.Image.Bounds() {
			t.Errorf("preview of %v", preview.Bounds())
		}
	}
}

func TestCancellation(t *testing.T) {
	e := open(t, pipeline.EngineConfig{MaxQueued: 2})
	want := generate(t, e, pipeline.Request{Prompt: prompt, Seed: 1, Steps: 20})
	ctx, cancel := context.WithCancel(context.Background())
	other := make(chan *pipeline.Result)
	_, err := e.Generate(ctx, pipeline.Request{Prompt: prompt, Seed: 2, Steps: 200}, func(ev pipeline.Event) {
		if ev.Step == 1 {
			go func() {
				result, err := e.Generate(context.Background(), pipeline.Request{Prompt: prompt, Seed: 1, Steps: 20}, nil)
				if err != nil {
					t.Error(err)
				}
				other <- result
			}()
		}
		if ev.Step == 3 {
			cancel()
		}
		if ev.Step == 200 {
			t.Error("it ran to its end")
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if result := <-other; result != nil && furthest(t, result.Latents.F32, want.Latents.F32) > 1e-4 {
		t.Error("a cancelled neighbour changed the picture")
	}
	if _, err := e.Generate(ctx, pipeline.Request{Prompt: prompt}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
	for range 3 { // no slot is lost
		generate(t, e, pipeline.Request{Prompt: prompt, Steps: 1})
	}
}

func TestBusyAndClosed(t *testing.T) {
	e := open(t, pipeline.EngineConfig{MaxQueued: 1})
	_, err := e.Generate(context.Background(), pipeline.Request{Prompt: prompt, Steps: 2}, func(pipeline.Event) {
		if _, err := e.Generate(context.Background(), pipeline.Request{Prompt: prompt}, nil); !errors.Is(err, pipeline.ErrBusy) {
			t.Errorf("a second picture: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Generate(context.Background(), pipeline.Request{Prompt: prompt, Steps: 200}, func(ev pipeline.Event) {
		if ev.Step == 1 {
			e.Close()
		}
	})
	if !errors.Is(err, pipeline.ErrClosed) {
		t.Errorf("closed on the way: %v", err)
	}
	if _, err = e.Generate(context.Background(), pipeline.Request{Prompt: prompt}, nil); !errors.Is(err, pipeline.ErrClosed) {
		t.Errorf("closed before: %v", err)
	}
}

func TestInvalid(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	nan := float32(math.NaN())
	with := func(change func(*pipeline.Subject)) pipeline.Request {
		s := subject(e, "me", 1)
		change(&s)
		return pipeline.Request{Prompt: "a photo of <me>", Subjects: []pipeline.Subject{s}}
	}
	for name, c := range map[string]struct {
		field   string
		request pipeline.Request
	}{
		"steps":            {"steps", pipeline.Request{Steps: 201}},
		"negative steps":   {"steps", pipeline.Request{Steps: -1}},
		"guidance NaN":     {"guidance_scale", pipeline.Request{GuidanceScale: math.NaN()}},
		"guidance Inf":     {"guidance_scale", pipeline.Request{GuidanceScale: math.Inf(1)}},
		"guidance below":   {"guidance_scale", pipeline.Request{GuidanceScale: -1}},
		"width":            {"width", pipeline.Request{Width: 72}},
		"negative height":  {"height", pipeline.Request{Height: -16}},
		"height too large": {"height", pipeline.Request{Height: 1 << 20}},
		"sampler":          {"scheduler", pipeline.Request{Scheduler: "magic"}},
		"rescale":          {"guidance_rescale", pipeline.Request{GuidanceRescale: 1.5}},
		"rescale NaN":      {"guidance_rescale", pipeline.Request{GuidanceRescale: math.NaN()}},
		"clip skip":        {"clip_skip", pipeline.Request{ClipSkip: 3}},
		"clip skip below":  {"clip_skip", pipeline.Request{ClipSkip: -1}},
		"weight":           {"prompt", pipeline.Request{Prompt: "(a cat:11)"}},
		"negative weight":  {"negative_prompt", pipeline.Request{NegativePrompt: "(a cat:-11)"}},
		"previews":         {"preview_every", pipeline.Request{PreviewEvery: -1}},
		"scale NaN":        {"subjects", with(func(s *pipeline.Subject) { s.Scale = math.NaN() })},
		"scale too large":  {"subjects", with(func(s *pipeline.Subject) { s.Scale = 11 })},
		"offsets cut":      {"subjects", with(func(s *pipeline.Subject) { s.Offsets = s.Offsets[1:] })},
		"offsets NaN":      {"subjects", with(func(s *pipeline.Subject) { s.Offsets[3] = nan })},
		"words NaN":        {"subjects", with(func(s *pipeline.Subject) { s.WordEmbeddings[3] = nan })},
		"words of another": {"subjects", with(func(s *pipeline.Subject) { s.WordEmbeddings = s.WordEmbeddings[1:] })},
		"neither":          {"subjects", with(func(s *pipeline.Subject) { s.WordEmbeddings, s.Offsets = nil, nil })},
		"not named":        {"prompt", with(func(s *pipeline.Subject) { s.Word = "you" })},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Generate(context.Background(), c.request, nil)
			var invalid *pipeline.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != c.field || invalid.Reason == "" {
				t.Errorf("got %v, want field %s", err, c.field)
			}
		})
	}
	generate(t, e, pipeline.Request{Prompt: prompt, Steps: 1})
}

func TestPNG(t *testing.T) {
	e := open(t, pipeline.EngineConfig{})
	result := generate(t, e, pipeline.Request{Prompt: prompt, Steps: 2, Width: 96})
	data, err := result.PNG()
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil || img.Bounds() != result.Image.Rect {
		t.Fatalf("%v, %v", img.Bounds(), err)
	}
	if got, want := color.NRGBAModel.Convert(img.At(70, 20)), result.Image.At(70, 20); got != want {
		t.Errorf("pixel %v became %v", want, got)
	}
}

// copied is a copy of the tiny folder.
func copied(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(tinySD)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDefaults(t *testing.T) {
	dir := copied(t)
	path := filepath.Join(dir, "generation_config.json")
	for text, want := range map[string]pipeline.Defaults{
		`{"num_inference_steps": 12, "guidance_scale": 3, "width": 96}`: {Steps: 12, GuidanceScale: 3, Width: 96, Height: 64},
		`{"scheduler": "euler"}`: {Steps: 25, GuidanceScale: 7.5, Width: 64, Height: 64, Scheduler: "euler"},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := pipeline.Open(dir, backend)
		if err != nil {
			t.Fatal(err)
		}
		if m.Defaults != want {
			t.Errorf("%s: got %+v, want %+v", text, m.Defaults, want)
		}
		m.Close()
	}
	for _, text := range []string{`{"steps": 12}`, `{"num_inference_steps": 0}`, `{"width": 70}`, `{"scheduler": "magic"}`, `{`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := pipeline.Open(dir, backend); err == nil || !strings.Contains(err.Error(), "generation_config.json") {
			t.Errorf("%s: %v", text, err)
			if m != nil {
				m.Close()
			}
		}
	}
}

// TestBrokenFolders: what is wrong with several networks is said at once.
func TestBrokenFolders(t *testing.T) {
	dir := copied(t)
	want := []string{}
	for _, c := range []struct{ file, weight string }{
		{"unet/diffusion_pytorch_model.safetensors", "conv_in.weight"},
		{"text_encoder/model.safetensors", "text_model.final_layer_norm.bias"},
		{"vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias"},
	} {
		drop(t, filepath.Join(dir, c.file), c.weight)
		want = append(want, c.weight)
	}
	_, err := pipeline.Open(dir, backend)
	if err == nil {
		t.Fatal("no error")
	}
	for _, weight := range want {
		if !strings.Contains(err.Error(), weight) {
			t.Errorf("%s is not named: %v", weight, err)
		}
	}
	dir = copied(t)
	config := filepath.Join(dir, "tokenizer", "tokenizer_config.json")
	if err := os.WriteFile(config, []byte(`{"model_max_length": 12}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pipeline.Open(dir, backend); err == nil || !strings.Contains(err.Error(), "12") {
		t.Errorf("a tokenizer of another length: %v", err)
	}
}

// drop writes the safetensors file at path again without one weight.
func drop(t *testing.T, path, weight string) {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kept := map[string]safetensors.Tensor{}
	for _, name := range f.Names() {
		if values, dims, err := f.Float32(name); err == nil && name != weight {
			kept[name] = safetensors.F32(values, dims...)
		}
	}
	if err := safetensors.Write(path, kept, nil); err != nil {
		t.Fatal(err)
	}
}

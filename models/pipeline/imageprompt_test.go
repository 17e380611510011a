package pipeline_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/checkpoint"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// adapterCase is a golden case of image prompts (scripts/golden/ipadapter.py).
type adapterCase struct {
	Model    string `json:"model"`
	Rank     int    `json:"rank"`
	Requests map[string]struct {
		goldenRequest
		Photos []string `json:"photos"`
		Scale  float64  `json:"scale"`
	} `json:"requests"`

	file   *safetensors.File
	engine *pipeline.Engine
	tokens map[string][]float32 // of each picture
}

func readAdapter(t *testing.T, folder string, with pipeline.Backend) *adapterCase {
	t.Helper()
	file, err := safetensors.Open(filepath.Join(folder, "io.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	c := &adapterCase{file: file, tokens: map[string][]float32{}}
	if err := json.Unmarshal([]byte(file.Metadata()["cases"]), c); err != nil {
		t.Fatal(err)
	}
	images, dims, err := file.Float32("image_tokens")
	if err != nil {
		t.Fatal(err)
	}
	blank, _, err := file.Float32("blank_tokens")
	if err != nil {
		t.Fatal(err)
	}
	c.tokens["tall"], c.tokens["wide"] = images[:len(images)/2], images[len(images)/2:]
	adapter, err := checkpoint.OpenAdapter(filepath.Join(folder, "adapter.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { adapter.Close() }) // after the engine, which openFolder closes
	with.ImagePrompts = &pipeline.ImagePrompts{Attention: adapter.Attention, Tokens: dims[1], Rank: c.Rank, Blank: blank}
	c.engine = openFolder(t, filepath.Join("testdata", c.Model), with, pipeline.EngineConfig{})
	return c
}

// subject is somebody on the named pictures.
func (c *adapterCase) subject(scale float64, photos ...string) pipeline.Subject {
	s := pipeline.Subject{Word: "me", Class: "cat", Scale: scale}
	for _, photo := range photos {
		s.ImageTokens = append(s.ImageTokens, c.tokens[photo]...)
	}
	return s
}

// Pictures after pictures are those that diffusers' pipelines draw with the same adapter loaded.
func TestImagePrompts(t *testing.T) {
	folders, err := filepath.Glob("../ipadapter/testdata/*_*")
	if err != nil || len(folders) < 7 {
		t.Fatal(folders, err)
	}
	for i, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			with := words
			with.LowMemory = i%2 == 1
			c := readAdapter(t, folder, with)
			for _, name := range slices.Sorted(maps.Keys(c.Requests)) {
				golden := c.Requests[name]
				r := golden.request()
				r.Subjects = []pipeline.Subject{c.subject(golden.Scale, golden.Photos...)}
				compare(t, c.file, name, generate(t, c.engine, r))
			}
		})
	}
}

// One batch holds requests of no picture, one, two, and of two subjects: each comes out as it does alone, and without pictures exactly as
// the model without an adapter draws it.
func TestImagePromptsTogether(t *testing.T) {
	for _, name := range []string{"plus_b", "faceid_b"} {
		t.Run(name, func(t *testing.T) { together(t, readAdapter(t, "../ipadapter/testdata/"+name, backend)) })
	}
}

func together(t *testing.T, c *adapterCase) {
	other := c.subject(0.4, "wide")
	other.Word = "you"
	var requests []pipeline.Request
	for i, subjects := range [][]pipeline.Subject{nil, {c.subject(0.7, "tall")}, {c.subject(1, "wide", "tall")}, {c.subject(1, "tall", "wide", "tall")},
		{c.subject(0.6, "tall"), other}, {c.subject(0, "wide")}} {
		requests = append(requests, pipeline.Request{Prompt: "a drawing of a cat", Seed: uint64(i), Steps: 4, GuidanceScale: 1 + 3*float64(i%2), Subjects: subjects})
	}
	both := subject(c.engine, "me", 3) // with offsets, and a word
	both.ImageTokens = c.tokens["tall"]
	requests = append(requests, pipeline.Request{Prompt: "a drawing of <me>", Seed: 9, Steps: 4, Subjects: []pipeline.Subject{both}})
	requests[2].CacheInterval = 2 // the outermost layers attend to pictures too
	requests[3].GuidanceEnd = 0.5
	together := generateTogether(t, c.engine, requests)
	plain := openFolder(t, tinySD, backend, pipeline.EngineConfig{})
	for i, r := range requests {
		alone := generate(t, c.engine, r).Latents.F32
		if d := furthest(t, together[i].Latents.F32, alone); d > 1e-4 {
			t.Errorf("request %d is %g from the one drawn alone", i, d)
		}
		acts := len(r.Subjects) > 0 && r.Subjects[0].Scale > 0
		r.Prompt, r.Subjects = strings.ReplaceAll(r.Prompt, "<me>", "cat"), nil
		d := furthest(t, alone, generate(t, plain, r).Latents.F32)
		if acts && d < 1e-2 {
			t.Errorf("request %d: its pictures make no difference", i)
		}
		if !acts && d != 0 {
			t.Errorf("request %d, without pictures, is %g from the model without an adapter", i, d)
		}
	}
}

// A word stands for its noun, and needs not be there.
func TestImagePromptInWords(t *testing.T) {
	c := readAdapter(t, "../ipadapter/testdata/base_a", words)
	me := []pipeline.Subject{c.subject(1, "tall")}
	named := draw(t, c.engine, "a drawing of a <me>", "", me...)
	if d := furthest(t, named, draw(t, c.engine, "a drawing of a cat", "", me...)); d != 0 {
		t.Errorf("the word is %g from its noun", d)
	}
}

func TestImagePromptsThatDoNotFit(t *testing.T) {
	c := readAdapter(t, "../ipadapter/testdata/base_a", words)
	one := c.tokens["tall"]
	bad := slices.Clone(one)
	bad[3] = float32(math.NaN())
	refused := func(e *pipeline.Engine, tokens []float32, want string) {
		t.Helper()
		s := pipeline.Subject{Word: "me", Class: "cat", Scale: 1, ImageTokens: tokens}
		_, err := e.Generate(t.Context(), pipeline.Request{Prompt: "a cat", Steps: 1, Subjects: []pipeline.Subject{s}}, nil)
		var invalid *pipeline.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "<me>") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused(c.engine, one[1:], "are not the image tokens of 1 to 4 pictures")
	refused(c.engine, slices.Repeat(one, 5), "are not the image tokens of 1 to 4 pictures")
	refused(c.engine, bad, "not numbers")
	refused(openFolder(t, tinySD, words, pipeline.EngineConfig{}), one, "IP-Adapter")
}

// An adapter for another model is refused before a network is opened, with all that is wrong.
func TestAdapterThatDoesNotFit(t *testing.T) {
	const cases = "../ipadapter/testdata/"
	for _, c := range []struct {
		adapter, model string
		tokens         int
		want           string
	}{
		{"base_sdxl", "tiny-sd", 4, "text of width 10, this model's has 16"},
		{"base_a", "tiny-sdxl_a", 4, "text of width 16, this model's has 10"},
		{"base_a", "tiny-sd", 3, "64 numbers for 3 image tokens of width 16"},
	} {
		adapter, err := checkpoint.OpenAdapter(cases + c.adapter + "/adapter.safetensors")
		if err != nil {
			t.Fatal(err)
		}
		defer adapter.Close()
		with := words
		with.ImagePrompts = &pipeline.ImagePrompts{Attention: adapter.Attention, Tokens: c.tokens, Blank: make([]float32, 4*16)}
		if _, err := pipeline.Open(filepath.Join("testdata", c.model), with); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %s: %v, want %q", c.adapter, c.model, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "half.safetensors")
	half := map[string]safetensors.Tensor{"image_proj.x": safetensors.F32([]float32{1}, 1),
		"ip_adapter.1.to_k_ip.weight": safetensors.F32(make([]float32, 8*16), 8, 16), "ip_adapter.1.to_v_ip.weight": safetensors.F32(make([]float32, 4*16), 4, 16)}
	if err := safetensors.Write(path, half, nil); err != nil {
		t.Fatal(err)
	}
	adapter, err := checkpoint.OpenAdapter(path)
	if err != nil {
		t.Fatal(err)
	}
	defer adapter.Close()
	with := words
	with.ImagePrompts = &pipeline.ImagePrompts{Attention: adapter.Attention, Tokens: 4, Blank: make([]float32, 4*16)}
	_, err = pipeline.Open(tinySD, with)
	var mismatch *checkpoint.MismatchError
	if !errors.As(err, &mismatch) || len(mismatch.Missing) < 4 || len(mismatch.Wrong) != 1 {
		t.Errorf("%v, want all that is missing and one wrong shape", err)
	}
}

package pipeline_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// goldenRequest is a request as diffusers' pipelines take it.
type goldenRequest struct {
	Prompt    string  `json:"prompt"`
	Negative  *string `json:"negative_prompt"`
	Seed      uint64  `json:"seed"`
	Steps     int     `json:"steps"`
	Guidance  float64 `json:"guidance_scale"`
	Rescale   float64 `json:"guidance_rescale"`
	Start     float64 `json:"guidance_start"`
	End       float64 `json:"guidance_end"`
	Interval  int     `json:"cache_interval"`
	ClipSkip  int     `json:"clip_skip"`
	Width     int     `json:"width"`
	Height    int     `json:"height"`
	Scheduler string  `json:"scheduler"`
}

func (g goldenRequest) request() pipeline.Request {
	r := pipeline.Request{Prompt: g.Prompt, Seed: g.Seed, Steps: g.Steps, GuidanceScale: g.Guidance, GuidanceRescale: g.Rescale,
		GuidanceStart: g.Start, GuidanceEnd: g.End, CacheInterval: g.Interval, ClipSkip: g.ClipSkip, Width: g.Width, Height: g.Height, Scheduler: g.Scheduler}
	if g.Negative != nil {
		r.NegativePrompt = *g.Negative
		if r.NegativePrompt == "" {
			r.NegativePrompt = " "
		}
	}
	return r
}

// Every folder's pictures are those that diffusers makes of it (scripts/golden/pipeline.py and families.py), from the same seeds.
func TestFamilies(t *testing.T) {
	folders, err := filepath.Glob("testdata/*/cases.safetensors")
	if err != nil || len(folders) < 7 {
		t.Fatal(folders, err)
	}
	for _, path := range folders {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			file, err := safetensors.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			var requests map[string]goldenRequest
			if err := json.Unmarshal([]byte(file.Metadata()["requests"]), &requests); err != nil {
				t.Fatal(err)
			}
			e := openFolder(t, dir, words, pipeline.EngineConfig{})
			for _, name := range slices.Sorted(maps.Keys(requests)) {
				compare(t, file, name, generate(t, e, requests[name].request()))
			}
		})
	}
}

// words is backend without offsets.
var words = pipeline.Backend{Network: backend.Network}

// compare holds a result against the latents and, where there is one, the picture of a case.
func compare(t *testing.T, file *safetensors.File, name string, got *pipeline.Result) {
	t.Helper()
	latents, dims, err := file.Float32("latents_" + name)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(dims, got.Latents.Dims) {
		t.Fatalf("%s: latents %v, want %v", name, got.Latents.Dims, dims)
	}
	sum := 0.0
	for i, v := range latents {
		sum += math.Abs(float64(got.Latents.F32[i]) - float64(v))
	}
	if mean := sum / float64(len(latents)); !(mean <= 1e-3) {
		t.Errorf("%s: latents are off by %g in the mean", name, mean)
	}
	if _, there := file.Info("image_" + name); !there {
		return
	}
	image, _, err := file.Float32("image_" + name)
	if err != nil {
		t.Fatal(err)
	}
	if d := furthest(t, planes(got), image); d > 2.0/255 {
		t.Errorf("%s: pictures differ by %g", name, d)
	}
}

// A concept's word has a part for each of SDXL's text encoders, and each reaches the picture.
func TestWordsOfTwoEncoders(t *testing.T) {
	e := openFolder(t, filepath.Join("testdata", "tiny-sdxl_a"), words, pipeline.EngineConfig{})
	first, all := e.Model().Text.HiddenSize, e.Model().WordWidth()
	if all <= first {
		t.Fatalf("word width %d, the first text encoder's %d", all, first)
	}
	latents := func(embeddings []float32) []float32 {
		s := pipeline.Subject{Word: "me", Class: "cat", Scale: 1, WordEmbeddings: embeddings}
		return draw(t, e, "a drawing of <me>", "", s)
	}
	none := latents(make([]float32, all))
	if d := furthest(t, none, draw(t, e, "a drawing of cat", "")); d != 0 {
		t.Errorf("a word of zeros is %g from its class", d)
	}
	whole := noise(all, 2, 1)
	left, right := slices.Clone(whole), slices.Clone(whole)
	clear(left[first:])
	clear(right[:first])
	for name, v := range map[string][]float32{"first": left, "second": right} {
		if got := latents(v); furthest(t, got, none) < 1e-3 || furthest(t, got, latents(whole)) < 1e-3 {
			t.Errorf("the %s text encoder's part makes no difference", name)
		}
	}
}

// What does not fit together is said before a network is opened.
func TestTextsThatDoNotFit(t *testing.T) {
	never := pipeline.Backend{Network: func(string, op.Model, *checkpoint.Component) (pipeline.Runner, error) {
		t.Error("a network was opened")
		return nil, errors.New("unreachable")
	}}
	const sdxl = "tiny-sdxl_a"
	for name, c := range map[string]struct {
		folder, file, old, new string
		want                   string
	}{
		"no projection": {sdxl, "text_encoder_2/config.json", "WithProjection", "", "text_projection"},
		"pooled":        {sdxl, "text_encoder_2/config.json", `"projection_dim": 10`, `"projection_dim": 12`, "pool to width 12, the unet reads 10"},
		"width":         {sdxl, "text_encoder/config.json", `"hidden_size": 6`, `"hidden_size": 8`, "width 12, the unet reads 10"},
		"one missing":   {sdxl, "model_index.json", `"text_encoder_2"`, `"_text_encoder_2"`, "width 6, the unet reads 10"},
		"context":       {sdxl, "tokenizer_2/tokenizer_config.json", `"model_max_length": 16`, `"model_max_length": 12`, "that of text_encoder_2 16"},
		"no tokenizer":  {sdxl, "tokenizer_2/vocab.json", "{", "", "tokenizer_2"},
		"zeros":         {sdxl, "model_index.json", `prompt": true`, `prompt": "yes"`, "model_index.json"},
		"sd 2 width":    {"tiny-sd2_a", "unet/config.json", `"cross_attention_dim": 6`, `"cross_attention_dim": 10`, "width 6, the unet reads 10"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", c.folder))); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, c.file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), c.old) {
			t.Fatalf("%s: %s has no %s", name, c.file, c.old)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(data), c.old, c.new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pipeline.Open(dir, never); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

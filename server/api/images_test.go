package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/models/pipeline"
)

type generated struct {
	Created int64
	Size    string
	Data    []struct {
		B64JSON string `json:"b64_json"`
		URL     string
		Seed    uint64
		Dropped int                `json:"dropped_tokens"`
		Timings map[string]float64 `json:"timings_ms"`
	}
}

func (w *world) draw(body string) generated {
	w.t.Helper()
	return read[generated](w, w.want(w.json("POST", "/v1/images/generations", body), http.StatusOK))
}

func pixel(t *testing.T, file []byte) (image.Image, color.NRGBA) {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return img, color.NRGBAModel.Convert(img.At(3, 3)).(color.NRGBA)
}

func TestGenerate(t *testing.T) {
	w := newWorld(t)
	w.concept("me", red)
	got := w.draw(`{"prompt":"a <me> on a beach","n":3,"seed":41,"size":"64x96","steps":7,"guidance_scale":2.5,"scheduler":"euler",
		"negative_prompt":"blurry","user":"u1","model":"demo","quality":"high","stream":null,"response_format":null}`)
	if len(got.Data) != 3 || got.Size != "64x96" || got.Created == 0 {
		t.Fatalf("%+v", got)
	}
	for i, p := range got.Data {
		file, err := base64.StdEncoding.DecodeString(p.B64JSON)
		if err != nil {
			t.Fatal(err)
		}
		img, colour := pixel(t, file)
		if p.Seed != uint64(41+i) || img.Bounds().Dx() != 64 || img.Bounds().Dy() != 96 || colour.R != uint8(41+i) || colour.G != red.G || p.URL != "" {
			t.Errorf("picture %d: %+v %v", i, p.Seed, colour)
		}
	}
	r := w.requests[0]
	if r.Prompt != "a <me> on a beach" || r.NegativePrompt != "blurry" || r.Steps != 7 || r.GuidanceScale != 2.5 || r.Scheduler != "euler" ||
		r.Owner != "u1" || r.PreviewEvery != 0 || len(r.Subjects) != 1 || r.Subjects[0].Scale != 1 {
		t.Errorf("request %+v", r)
	}
}

func TestDefaultsAndURL(t *testing.T) {
	w := newWorld(t)
	got := w.draw(`{"prompt":"a cat","response_format":"url"}`)
	if len(got.Data) != 1 || got.Data[0].B64JSON != "" || !strings.HasPrefix(got.Data[0].URL, w.url+"/v1/images/img_") {
		t.Fatalf("%+v", got)
	}
	a := w.want(w.get(strings.TrimPrefix(got.Data[0].URL, w.url)), 200)
	if _, colour := pixel(t, a.body); colour.R != uint8(got.Data[0].Seed) || a.header.Get("Content-Type") != "image/png" {
		t.Errorf("%v %v", colour, a.header)
	}
	w.want(w.get("/v1/images/img_none.png"), http.StatusNotFound)
	w.want(w.get(strings.TrimSuffix(strings.TrimPrefix(got.Data[0].URL, w.url), ".png")), http.StatusNotFound)
	if r := w.requests[0]; r.Steps != 12 || r.GuidanceScale != 3 || r.Scheduler != "ddim" || r.Width != 128 || r.Height != 128 {
		t.Errorf("defaults %+v", r)
	}
	if other := w.draw(`{"prompt":"a cat"}`); other.Data[0].Seed == got.Data[0].Seed {
		t.Error("two requests without a seed have the same one")
	}
	w.draw(`{"prompt":"a cat","guidance_scale":0}`)
	if r := w.requests[len(w.requests)-1]; r.GuidanceScale != 1 {
		t.Errorf("guidance 0 became %v", r.GuidanceScale)
	}
}

// Prompts name concepts by word or id, with a scale, several at once; a newer concept takes a word over.
func TestPromptsNameConcepts(t *testing.T) {
	w := newWorld(t)
	old := w.concept("me", red)
	w.concept("bob", red)
	newest := w.concept("me", blue)
	w.draw(`{"prompt":"<ME:0.5> and <bob> and <` + old.ID + `:1.5>","concept_strength":0.5}`)
	r := w.requests[0]
	if r.Prompt != "<me> and <bob> and <"+old.ID+">" || len(r.Subjects) != 3 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []struct {
		word  string
		scale float64
		blue  uint8
	}{{"me", 0.25, blue.B}, {"bob", 0.5, red.B}, {old.ID, 0.75, red.B}} {
		s := r.Subjects[i]
		if s.Word != want.word || s.Scale != want.scale || uint8(s.WordEmbeddings[2]+0.5) != want.blue {
			t.Errorf("subject %d: %+v, want %+v", i, s, want)
		}
	}
	refuse := func(prompt string, status int, says ...string) {
		t.Helper()
		w.want(w.json("POST", "/v1/images/generations", `{"prompt":"`+prompt+`"}`), status, says...)
	}
	refuse("<ann> at home", 422, "<ann>", "unknown_word", "<me>", "<bob>")
	refuse("<c_00000000000000000000>", 422, "<c_00000000000000000000>")
	refuse("<bob> and <bob:0.5> and <bob:0.6>", 400, "one concept has one scale")
	refuse("<me:nan>", 400, "scale")
	refuse("<me> next to <"+newest.ID+">", 422, "same concept")
	if _, err := w.Server.Store.Update(t.Context(), old.ID, func(c *concept.Concept) error { c.BaseModel = "other"; return nil }); err != nil {
		t.Fatal(err)
	}
	refuse("<"+old.ID+">", 422, "concept_of_another_model", "another base model")
	if got := read[conceptBody](w, w.get(old.URL)); got.Usable {
		t.Error("a concept of another model is said to be usable")
	}
}

func TestUnknownWordWithoutConcepts(t *testing.T) {
	w := newWorld(t)
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"<me>"}`), 422, "<me>", "upload a photo first")
}

// Each bad field is named, with a 4xx, before anything is drawn.
func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	for body, says := range map[string]string{
		``: "JSON", `{`: "JSON", `"x"`: "object", `{"prompt":"x"} x`: "goes on", `{"n":1}`: "prompt is missing", `{"prompt":"  "}`: "prompt is missing",
		`{"prompt":7}`: "prompt", `{"prompt":"x","steps":0}`: "steps is 0", `{"prompt":"x","steps":101}`: "steps is 101",
		`{"prompt":"x","steps":1e9}`: "steps", `{"prompt":"x","steps":2.5}`: "steps", `{"prompt":"x","steps":"7"}`: "steps",
		`{"prompt":"x","n":0}`: "n is 0", `{"prompt":"x","n":11}`: "n is 11", `{"prompt":"x","n":-1}`: "n is -1",
		`{"prompt":"x","seed":-1}`: "seed", `{"prompt":"x","seed":9007199254740992}`: "seed", `{"prompt":"x","seed":18446744073709551616}`: "seed",
		`{"prompt":"x","guidance_scale":NaN}`: "JSON", `{"prompt":"x","guidance_scale":1e400}`: "guidance_scale",
		`{"prompt":"x","guidance_scale":-0.1}`: "guidance_scale", `{"prompt":"x","guidance_scale":31}`: "guidance_scale",
		`{"prompt":"x","concept_strength":-1}`: "concept_strength", `{"prompt":"x","concept_strength":2.1}`: "concept_strength",
		`{"prompt":"x","size":"big"}`: "size", `{"prompt":"x","size":"128"}`: "size", `{"prompt":"x","size":"0x128"}`: "size",
		`{"prompt":"x","size":"16384x16384"}`: "size", `{"prompt":"x","response_format":"jpeg"}`: "response_format",
		`{"prompt":"x","output_format":"webp"}`: "output_format", `{"prompt":"x","partial_images":4}`: "partial_images",
		`{"prompt":"x","scheduler":"magic"}`: "ddim, euler", `{"prompt":"x","stream":"yes"}`: "stream", `{"prompt":"x","colour":"red"}`: `colour`,
	} {
		w.want(w.json("POST", "/v1/images/generations", body), http.StatusBadRequest, says)
	}
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"x","model":"gpt-image-1"}`), 404, "model_not_found", "demo")
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"`+strings.Repeat("é", 1001)+`"}`), 422, "1000 characters")
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"`+strings.Repeat("x", 70<<10)+`"}`), 413, "too_large")
	if len(w.requests) != 0 {
		t.Errorf("drawn: %+v", w.requests)
	}
	w.draw(`{"prompt":"` + strings.Repeat("é", 1000) + `","steps":100,"n":10,"guidance_scale":30,"seed":9007199254740991}`)
}

// What goes wrong while drawing reaches the client as its own fault or as the server's, without internals.
func TestGeneratorErrors(t *testing.T) {
	w := newWorld(t)
	var cause error
	w.before = func(context.Context, pipeline.Request) error {
		if cause == nil {
			panic("secret detail")
		}
		return cause
	}
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{&pipeline.InvalidError{Field: "width", Reason: "100: must be a multiple of 8"}, 400, "width 100: must be a multiple of 8"},
		{fmt.Errorf("x: %w", &pipeline.InvalidError{Field: "prompt", Reason: "is longer than 32 tokens"}), 422, "prompt is longer"},
		{errors.New("secret detail of /home/x"), 500, "went wrong"},
		{nil, 500, "went wrong"},
		{context.DeadlineExceeded, 503, "too long"},
	} {
		cause = c.err
		a := w.want(w.json("POST", "/v1/images/generations", `{"prompt":"x","n":2}`), c.status, c.says)
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("internals: %s", a.body)
		}
		if (c.status == 503) != (a.header.Get("Retry-After") != "") {
			t.Errorf("%d: headers %v", c.status, a.header)
		}
	}
	if !strings.Contains(w.log.String(), "secret detail") {
		t.Error("the log does not have the cause")
	}
	w.before = nil
	w.draw(`{"prompt":"x"}`)
}

// A concept of enormous values is at fault itself, if the model's own weights are not.
func TestConceptTooStrong(t *testing.T) {
	w := newWorld(t)
	w.concept("me", red)
	w.before = func(context.Context, pipeline.Request) error { return fmt.Errorf("step 1: %w", pipeline.ErrNotNumbers) }
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"a <me>"}`), http.StatusUnprocessableEntity, "concept_too_strong", "with <me>")
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"x"}`), http.StatusInternalServerError, "internal")
}

// Ten pictures at most may be admitted here: the queue is filled exactly, refuses what is beyond, and drains.
func TestQueueFull(t *testing.T) {
	goOn := make(chan struct{})
	w := newWorld(t, func(c *Config) { c.MaxQueue = 10 })
	w.before = func(ctx context.Context, r pipeline.Request) error { <-goOn; return nil }
	done := make(chan answer)
	go func() { done <- w.json("POST", "/v1/images/generations", `{"prompt":"x","n":8}`) }()
	for w.drawing.count() != 8 {
		time.Sleep(time.Millisecond)
	}
	a := w.want(w.json("POST", "/v1/images/generations", `{"prompt":"x","n":3}`), http.StatusTooManyRequests, "queue_full", "rate_limit_error")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	go func() { done <- w.json("POST", "/v1/images/generations", `{"prompt":"x","n":2}`) }()
	for w.drawing.count() != 10 {
		time.Sleep(time.Millisecond)
	}
	close(goOn)
	w.want(<-done, 200)
	w.want(<-done, 200)
	if n := w.drawing.count(); n != 0 {
		t.Errorf("%d are still admitted", n)
	}
	w.draw(`{"prompt":"x","n":10}`)
}

func TestPicturesAreForgotten(t *testing.T) {
	p := newPictures(100, time.Hour)
	now := time.Unix(0, 0)
	p.now = func() time.Time { return now }
	first, second := p.add(make([]byte, 60)), p.add(make([]byte, 40))
	if len(p.get(first)) != 60 || len(p.get(second)) != 40 {
		t.Error("not kept")
	}
	third := p.add(make([]byte, 30))
	if p.get(first) != nil || p.get(second) == nil || p.get(third) == nil || p.size != 70 {
		t.Error("the oldest had to go")
	}
	now = now.Add(time.Hour)
	if p.get(third) != nil || p.size != 0 || p.order.Len() != 0 || len(p.byID) != 0 {
		t.Error("an hour has passed")
	}
}

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/pipeline"
	"likeness/server/store/bolt"
	"likeness/training/protocol"
)

// painter stands in for the networks, to bring about what real ones do not on demand. A concept is the photo's mean
// colour, a picture is filled with the colours of its subjects.
type painter struct {
	mu       sync.Mutex
	encoded  int
	requests []pipeline.Request
	refuse   func(r pipeline.Request) error
	before   func(ctx context.Context, r pipeline.Request) error // what happens ahead of each picture
	onEncode func(ctx context.Context) error                     // and ahead of each concept
}

func (p *painter) Encode(ctx context.Context, photos []*encoder.Photo, word, class string) (*concept.Concept, error) {
	if p.onEncode != nil {
		if err := p.onEncode(ctx); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	p.encoded++
	p.mu.Unlock()
	c := &concept.Concept{Word: word, Class: class, Method: "encoder", BaseModel: "base", Encoder: "enc", Created: time.Now().UTC(),
		Photos: len(photos), PhotoHash: encoder.HashPhotos(photos)}
	for _, photo := range photos {
		c.Notes = append(c.Notes, photo.Notes...)
	}
	c.WordEmbeddings = concept.Embeddings{Layers: 1, Vectors: 1, Width: 3, Data: make([]float32, 3)}
	for i, v := range photos[0].Image.Pix {
		if i%4 < 3 {
			c.WordEmbeddings.Data[i%4] += float32(v) / float32(len(photos[0].Image.Pix)/4)
		}
	}
	return c, nil
}

func (p *painter) Subject(c *concept.Concept, scale float64) (pipeline.Subject, error) {
	if c.BaseModel != "base" {
		return pipeline.Subject{}, &encoder.OtherBaseError{Word: c.Word, Want: "base", Got: c.BaseModel}
	}
	return pipeline.Subject{Word: c.Word, Class: c.Class, WordEmbeddings: c.WordEmbeddings.Data, Scale: scale}, nil
}

func (p *painter) Check(r pipeline.Request) error {
	if p.refuse != nil {
		return p.refuse(r)
	}
	return nil
}

func (p *painter) Generate(ctx context.Context, r pipeline.Request, onEvent func(pipeline.Event)) (*pipeline.Result, error) {
	p.mu.Lock()
	p.requests = append(p.requests, r)
	p.mu.Unlock()
	if p.before != nil {
		if err := p.before(ctx, r); err != nil {
			return nil, err
		}
	}
	img := image.NewNRGBA(image.Rect(0, 0, r.Width, r.Height))
	fill := color.NRGBA{uint8(r.Seed), 0, 0, 255}
	for _, s := range r.Subjects {
		if s.WordEmbeddings == nil {
			continue
		}
		fill.G, fill.B = uint8(float64(s.WordEmbeddings[1])*s.Scale), uint8(float64(s.WordEmbeddings[2])*s.Scale)
	}
	for i := 0; i < len(img.Pix); i += 4 {
		copy(img.Pix[i:], []uint8{fill.R, fill.G, fill.B, fill.A})
	}
	for step := 1; step <= r.Steps; step++ {
		e := pipeline.Event{Step: step, Steps: r.Steps}
		if r.PreviewEvery > 0 && step%r.PreviewEvery == 0 {
			e.Preview = img
		}
		onEvent(e)
	}
	return &pipeline.Result{Image: img, Steps: pipeline.StepCounts{Whole: r.Steps}}, ctx.Err()
}

// world is a server under test.
type world struct {
	*painter
	*Server
	t      *testing.T
	url    string
	log    *bytes.Buffer
	router routers.Router
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "concepts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{painter: &painter{}, t: t, log: &bytes.Buffer{}}
	cfg := Config{
		Store: db, Photos: encoder.NewIntake(encoder.IntakeConfig{}), Encoder: w.painter, Generator: w.painter,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Model: Model{ID: "demo", Tuning: protocol.Methods, BaseModel: "base", Encoder: "enc", Width: 128, Height: 128, Multiple: 16, Steps: 12, GuidanceScale: 3,
			Scheduler: "ddim", Schedulers: []string{"ddim", "euler"}, Class: "face"},
	}
	for _, f := range change {
		f(&cfg)
	}
	w.Server = New(cfg)
	server := httptest.NewServer(w.Server)
	t.Cleanup(server.Close)
	w.url = server.URL
	w.router, err = gorillamux.NewRouter(readDocument(t))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func readDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(openAPI)
	if err == nil {
		err = doc.Validate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request, and holds the answer against the OpenAPI document.
func (w *world) do(method, path, contentType string, body []byte) answer {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		w.t.Fatal(err)
	}
	w.check(r, a)
	return a
}

func (w *world) check(r *http.Request, a answer) {
	w.t.Helper()
	route, parameters, err := w.router.FindRoute(r)
	if err != nil {
		return // a path outside the document; the answers to those are checked by their own tests
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route},
		Status:                 a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if err := openapi3filter.ValidateResponse(w.t.Context(), input); err != nil && !strings.Contains(err.Error(), "unsupported content type") {
		w.t.Errorf("%s %s: the answer %d %.300s is not in the document: %v", r.Method, r.URL.Path, a.status, a.body, err)
	}
}

func (w *world) json(method, path, body string) answer {
	w.t.Helper()
	return w.do(method, path, "application/json", []byte(body))
}

func (w *world) get(path string) answer { w.t.Helper(); return w.json("GET", path, "") }

// want fails the test if the answer has another status, or an error without these texts.
func (w *world) want(a answer, status int, says ...string) answer {
	w.t.Helper()
	if a.status != status {
		w.t.Fatalf("status %d, want %d: %.400s", a.status, status, a.body)
	}
	for _, text := range says {
		if !strings.Contains(string(a.body), text) {
			w.t.Errorf("the answer does not say %q: %.400s", text, a.body)
		}
	}
	return a
}

// read decodes an answer.
func read[T any](w *world, a answer) (v T) {
	w.t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		w.t.Fatalf("%v in %.200s", err, a.body)
	}
	return v
}

// part is one part of a form.
type part struct{ name, value string }

func photo(c color.Color) part { return part{"image", string(photoFile(c))} }

func photoFile(c color.Color) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 80, 96))
	for i := range 80 * 96 {
		img.Set(i%80, i/80, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func form(parts ...part) (contentType string, body []byte) {
	var b bytes.Buffer
	f := multipart.NewWriter(&b)
	for i, p := range parts {
		if strings.HasPrefix(p.name, "image") {
			w, _ := f.CreateFormFile(p.name, fmt.Sprintf("photo%d.png", i))
			io.WriteString(w, p.value)
		} else if p.name == "file" {
			w, _ := f.CreateFormFile(p.name, "style.safetensors")
			io.WriteString(w, p.value)
		} else {
			f.WriteField(p.name, p.value)
		}
	}
	f.Close()
	return f.FormDataContentType(), b.Bytes()
}

func (w *world) upload(parts ...part) answer {
	w.t.Helper()
	contentType, body := form(parts...)
	return w.do("POST", "/v1/concepts", contentType, body)
}

var (
	red  = color.NRGBA{200, 30, 40, 255}
	blue = color.NRGBA{10, 60, 220, 255}
)

// concept stores a concept and returns it.
func (w *world) concept(word string, c color.Color) conceptBody {
	w.t.Helper()
	return read[conceptBody](w, w.want(w.upload(photo(c), part{"word", word}), http.StatusCreated))
}

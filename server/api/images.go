package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"likeness/encoder/concept"
	"likeness/models/pipeline"
	"likeness/server/store"
)

// Bounds of a request for pictures.
const (
	maxPrompt      = 1000 // characters
	maxPictures    = 10
	maxPartials    = 3
	maxSteps       = 100
	maxGuidance    = 30
	maxStrength    = concept.MaxScale
	minGuidanceEnd = 0.01
	minGate        = 0.01
	maxSeed        = 1<<53 - 1 // what every JSON reader keeps exactly
	maxSide        = 2048      // pixels; the model may allow less
)

// generationBody is OpenAI's request with the fields of a diffusion model. A null is as good as no value. The last ones
// are accepted from OpenAI's clients and change nothing.
type generationBody struct {
	Prompt         *string  `json:"prompt"`
	Model          *string  `json:"model"`
	N              *int     `json:"n"`
	Size           *string  `json:"size"`
	ResponseFormat *string  `json:"response_format"`
	OutputFormat   *string  `json:"output_format"`
	Stream         *bool    `json:"stream"`
	PartialImages  *int     `json:"partial_images"`
	User           *string  `json:"user"`
	NegativePrompt *string  `json:"negative_prompt"`
	Seed           *uint64  `json:"seed"`
	Steps          *int     `json:"steps"`
	GuidanceScale  *float64 `json:"guidance_scale"`
	Scheduler      *string  `json:"scheduler"`
	Rescale        *float64 `json:"guidance_rescale"`
	GateBias       *float64 `json:"gate_bias"`
	GateWidth      *float64 `json:"gate_temperature"`
	Start          *float64 `json:"guidance_start"`
	End            *float64 `json:"guidance_end"`
	CacheInterval  *int     `json:"cache_interval"`
	Strength       *float64 `json:"concept_strength"`

	Quality    *string `json:"quality"`
	Style      *string `json:"style"`
	Background *string `json:"background"`
	Moderation *string `json:"moderation"`
}

// drawing is a checked request: n pictures that differ in their seeds.
type drawing struct {
	request  pipeline.Request // of the first picture
	n        int
	url      bool // answer with a url instead of the file itself
	stream   bool
	partials int
}

// or is *p, or fallback where the client gave none.
func or[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}

func between[T int | uint64 | float64](name string, value, low, high T) error {
	if !(value >= low && value <= high) {
		return invalid(name, "is %v: it must be from %v to %v", value, low, high)
	}
	return nil
}

func oneOf(name, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return invalid(name, "is %q: it can be %s", clip(value), strings.Join(allowed, ", "))
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readDrawing reads and checks POST /v1/images/generations before anything is computed.
func (s *Server) readDrawing(c echo.Context) (*drawing, error) {
	var b generationBody
	if err := readJSON(c, &b); err != nil {
		return nil, err
	}
	return s.checkDrawing(c.Request().Context(), b)
}

// checkDrawing checks the fields that pictures from nothing and edits share.
func (s *Server) checkDrawing(ctx context.Context, b generationBody) (*drawing, error) {
	d := &drawing{
		n: or(b.N, 1), url: or(b.ResponseFormat, "b64_json") == "url", stream: or(b.Stream, false), partials: or(b.PartialImages, 0),
		request: pipeline.Request{
			NegativePrompt: or(b.NegativePrompt, ""), Seed: or(b.Seed, rand.Uint64N(1<<32)), Steps: or(b.Steps, s.Model.Steps),
			GuidanceScale: or(b.GuidanceScale, s.Model.GuidanceScale), Scheduler: or(b.Scheduler, s.Model.Scheduler),
			GuidanceRescale: or(b.Rescale, 0), GuidanceStart: or(b.Start, 0), GuidanceEnd: or(b.End, 1), CacheInterval: or(b.CacheInterval, 1),
			GateBias: or(b.GateBias, pipeline.GateBias), GateTemperature: or(b.GateWidth, pipeline.GateTemperature), Owner: or(b.User, ""),
		},
	}
	if d.request.GuidanceScale == 0 {
		d.request.GuidanceScale = 1 // no guidance either, where 0 would ask for the default
	}
	strength := or(b.Strength, 1)
	err := firstError(
		between("n", d.n, 1, maxPictures), between("partial_images", d.partials, 0, maxPartials),
		between("steps", d.request.Steps, 1, maxSteps), between("guidance_scale", d.request.GuidanceScale, 0, maxGuidance),
		between("guidance_rescale", d.request.GuidanceRescale, 0, 1), between("guidance_start", d.request.GuidanceStart, 0, 1),
		between("guidance_end", d.request.GuidanceEnd, minGuidanceEnd, 1), between("cache_interval", d.request.CacheInterval, 1, maxSteps),
		between("gate_bias", d.request.GateBias, minGate, 1), between("gate_temperature", d.request.GateTemperature, minGate, 1),
		between("concept_strength", strength, 0, maxStrength), between("seed", d.request.Seed, 0, maxSeed),
		oneOf("response_format", or(b.ResponseFormat, "b64_json"), "b64_json", "url"),
		oneOf("output_format", or(b.OutputFormat, "png"), "png"),
		oneOf("scheduler", or(b.Scheduler, s.Model.Schedulers[0]), s.Model.Schedulers...),
		s.checkModel(or(b.Model, s.Model.ID)), s.setSize(d, or(b.Size, "auto")),
		checkText("prompt", or(b.Prompt, "")), checkText("negative_prompt", d.request.NegativePrompt), checkText("user", or(b.User, "")),
	)
	if err == nil && strings.TrimSpace(or(b.Prompt, "")) == "" {
		err = invalid("prompt", "is missing")
	}
	if err != nil {
		return nil, err
	}
	if d.stream && d.partials > 0 {
		d.request.PreviewEvery = (d.request.Steps + d.partials) / (d.partials + 1)
	}
	return d, s.setPrompt(ctx, d, *b.Prompt, strength)
}

func checkText(name, text string) error {
	if utf8.RuneCountInString(text) > maxPrompt {
		return &problem{http.StatusUnprocessableEntity, name + "_too_long", name, fmt.Sprintf("%s has more than %d characters", name, maxPrompt)}
	}
	return nil
}

func (s *Server) checkModel(id string) error {
	if id != s.Model.ID {
		return &problem{http.StatusNotFound, "model_not_found", "model", fmt.Sprintf("there is no model %q: this server has %q", clip(id), s.Model.ID)}
	}
	return nil
}

// setSize reads "128x192", width first, or "auto".
func (s *Server) setSize(d *drawing, size string) error {
	d.request.Width, d.request.Height = s.Model.Width, s.Model.Height
	if size == "auto" {
		return nil
	}
	w, h, _ := strings.Cut(size, "x")
	width, wErr := strconv.Atoi(w)
	height, hErr := strconv.Atoi(h)
	if wErr != nil || hErr != nil || min(width, height) < 1 || max(width, height) > maxSide {
		return invalid("size", `is %q: write "auto", or width and height in pixels as %dx%d`, clip(size), s.Model.Width, s.Model.Height)
	}
	d.request.Width, d.request.Height = width, height
	return nil
}

// setPrompt finds the concepts that a prompt names, by word or by id.
func (s *Server) setPrompt(ctx context.Context, d *drawing, prompt string, strength float64) error {
	text, uses, err := concept.ParsePrompt(prompt)
	if err != nil {
		return err
	}
	d.request.Prompt = text
	named := map[string]string{} // id → word
	for _, use := range uses {
		c, err := s.findConcept(ctx, use.Word)
		if err != nil {
			return err
		}
		if word, twice := named[c.ID]; twice {
			return &problem{http.StatusUnprocessableEntity, "invalid_prompt", "prompt", fmt.Sprintf("<%s> and <%s> are the same concept: name it one way", word, use.Word)}
		}
		named[c.ID] = use.Word
		subject, err := s.Encoder.Subject(c, use.Scale*strength)
		if err != nil {
			return err
		}
		subject.Word = use.Word
		d.request.Subjects = append(d.request.Subjects, subject)
	}
	return nil
}

// findConcept returns the newest concept with a word, or the one with that id.
func (s *Server) findConcept(ctx context.Context, word string) (*concept.Concept, error) {
	page, err := s.Store.Find(ctx, store.ByWord, word)
	if err != nil {
		return nil, err
	}
	found := page.Concepts
	if len(found) == 0 && strings.HasPrefix(word, "c_") {
		c, err := s.Store.Get(ctx, word)
		if err == nil {
			found = []*concept.Concept{c}
		}
	}
	for _, c := range found {
		if s.usable(c) {
			return c, nil
		}
	}
	if len(found) > 0 {
		return found[0], nil // the encoder says what is wrong with it
	}
	if len(page.Damaged) > 0 {
		return nil, page.Damaged[0]
	}
	return nil, s.unknownWord(ctx, word)
}

func (s *Server) unknownWord(ctx context.Context, word string) error {
	const shown = 12
	page, err := s.Store.List(ctx, 100, "")
	if err != nil {
		return err
	}
	var known []string
	for _, c := range page.Concepts {
		if w := "<" + c.Word + ">"; !slices.Contains(known, w) && len(known) < shown {
			known = append(known, w)
		}
	}
	hint := "there are no concepts yet: upload a photo first"
	if len(known) > 0 {
		hint = "known ones are " + strings.Join(known, ", ")
	}
	return &problem{http.StatusUnprocessableEntity, "unknown_word", "prompt", fmt.Sprintf("no concept has the word <%s>: %s", word, hint)}
}

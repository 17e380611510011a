package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"

	"likeness/models/pipeline"
)

// pictureBody is one finished picture.
type pictureBody struct {
	B64JSON string             `json:"b64_json,omitempty"`
	URL     string             `json:"url,omitempty"`
	Seed    uint64             `json:"seed"`
	Dropped int                `json:"dropped_tokens,omitempty"` // of the prompt's end, which did not fit
	Steps   stepsBody          `json:"step_counts"`
	Timings map[string]float64 `json:"timings_ms"`
}

// stepsBody says how the steps were taken.
type stepsBody struct {
	Whole   int `json:"whole"`
	Shallow int `json:"shallow"`
	Guided  int `json:"guided"`
}

// Events of a stream. Those named as OpenAI names them have its fields, and the index of the picture they belong to.
const (
	eventProgress  = "progress"
	eventPartial   = "image_generation.partial_image"
	eventCompleted = "image_generation.completed"
	eventError     = "error"
)

type progressEvent struct {
	Type  string `json:"type"`
	Index int    `json:"index"`
	Step  int    `json:"step"` // 0: waiting
	Steps int    `json:"steps"`
	Queue int    `json:"queue"` // unfinished pictures that were asked for before
}

type partialEvent struct {
	Type         string `json:"type"`
	Index        int    `json:"index"`
	PartialIndex int    `json:"partial_image_index"`
	B64JSON      string `json:"b64_json"`
	CreatedAt    int64  `json:"created_at"`
	Size         string `json:"size"`
	OutputFormat string `json:"output_format"`
}

type completedEvent struct {
	Type         string `json:"type"`
	Index        int    `json:"index"`
	CreatedAt    int64  `json:"created_at"`
	Size         string `json:"size"`
	OutputFormat string `json:"output_format"`
	pictureBody
}

// generate is POST /v1/images/generations.
func (s *Server) generate(c echo.Context) error {
	d, err := s.readDrawing(c)
	if err != nil {
		return err
	}
	return s.answerDrawing(c, d)
}

// answerDrawing makes the pictures of a checked request.
func (s *Server) answerDrawing(c echo.Context, d *drawing) error {
	if d.request.Owner == "" {
		d.request.Owner = c.RealIP()
	}
	if err := s.Generator.Check(d.request); err != nil {
		return err
	}
	before, err := s.drawing.admit(d.n)
	if err != nil {
		return err
	}
	if d.stream {
		return s.stream(c, d, before)
	}
	clock := newStopwatch()
	made, err := s.draw(c.Request().Context(), d, s.finish(c, d), func(event) {})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Created      int64              `json:"created"`
		Data         []pictureBody      `json:"data"`
		Size         string             `json:"size"`
		OutputFormat string             `json:"output_format"`
		Timings      map[string]float64 `json:"timings_ms"`
	}{time.Now().Unix(), made, d.size(), "png", clock.total()})
}

// blame says whose fault it is that a picture is no numbers: the concepts', where there are any, since without them the model draws.
func (d *drawing) blame(err error) error {
	if !errors.Is(err, pipeline.ErrNotNumbers) || len(d.request.Subjects) == 0 {
		return err
	}
	var words []string
	for _, subject := range d.request.Subjects {
		words = append(words, "<"+subject.Word+">")
	}
	return &problem{http.StatusUnprocessableEntity, "concept_too_strong", "prompt", fmt.Sprintf(
		"with %s the model computes no numbers any more: lower the strength, or use another concept: its values are too large", strings.Join(words, " and "))}
}

func (d *drawing) size() string { return fmt.Sprintf("%dx%d", d.request.Width, d.request.Height) }

// named is an event's name, which OpenAI calls otherwise where a picture is edited.
func (d *drawing) named(event string) string {
	if d.request.Image != nil {
		return strings.Replace(event, "image_generation", "image_edit", 1)
	}
	return event
}

// event is one message of a stream.
type event struct {
	name string
	data any
}

// draw makes the pictures of an admitted drawing, all at once, and gives their places back. Report must not block; it
// is called from several goroutines.
func (s *Server) draw(ctx context.Context, d *drawing, finish func(*image.NRGBA) (pictureBody, error), report func(event)) ([]pictureBody, error) {
	made := make([]pictureBody, d.n)
	group, ctx := errgroup.WithContext(ctx)
	for i := range d.n {
		group.Go(func() (err error) {
			defer s.drawing.leave()
			defer recoverError(&err)
			clock := newStopwatch()
			r := d.request
			r.Seed += uint64(i)
			result, err := s.Generator.Generate(ctx, r, d.reporter(i, report))
			if err != nil {
				return d.blame(err)
			}
			clock.lap("generate")
			clock.add("text", result.Timings.Text)
			clock.add("denoise", result.Timings.Denoise)
			clock.add("decode", result.Timings.Decode)
			if made[i], err = finish(result.Image); err != nil {
				return err
			}
			clock.lap("png")
			made[i].Steps = stepsBody(result.Steps)
			made[i].Seed, made[i].Dropped, made[i].Timings = r.Seed, result.Truncated, clock.total()
			name := d.named(eventCompleted)
			report(event{name, completedEvent{name, i, time.Now().Unix(), d.size(), "png", made[i]}})
			return nil
		})
	}
	err := group.Wait()
	return made, err
}

// recoverError turns a panic of a goroutine into an error, since no middleware sees it.
func recoverError(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	}
}

// reporter translates the engine's events of picture i.
func (d *drawing) reporter(i int, report func(event)) func(pipeline.Event) {
	partials := 0
	return func(e pipeline.Event) {
		report(event{eventProgress, progressEvent{eventProgress, i, e.Step, e.Steps, 0}})
		if e.Preview == nil || partials >= d.partials {
			return
		}
		file, err := encodePNG(e.Preview)
		if err != nil {
			return // a preview is worth no more than this
		}
		name := d.named(eventPartial)
		report(event{name, partialEvent{
			name, i, partials, base64.StdEncoding.EncodeToString(file), time.Now().Unix(), d.size(), "png",
		}})
		partials++
	}
}

func encodePNG(img image.Image) ([]byte, error) {
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}

// finish says how a picture is handed to the client.
func (s *Server) finish(c echo.Context, d *drawing) func(*image.NRGBA) (pictureBody, error) {
	base := c.Scheme() + "://" + c.Request().Host + "/v1/images/"
	return func(img *image.NRGBA) (pictureBody, error) {
		file, err := encodePNG(img)
		if err != nil {
			return pictureBody{}, err
		}
		if d.url {
			return pictureBody{URL: base + s.pictures.add(file) + ".png"}, nil
		}
		return pictureBody{B64JSON: base64.StdEncoding.EncodeToString(file)}, nil
	}
}

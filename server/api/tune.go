package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"likeness/server/jobs"
	"likeness/training/protocol"
)

// Bounds of a tuning.
const (
	maxTunedPhotos  = 20
	maxTunedSteps   = 5000
	maxTunedBatch   = 32 // of pictures that are computed together, and of batches in a step
	maxTunedRank    = 64
	maxTunedVectors = 16
	maxTunedSide    = 2048 // pixels
)

// tuneBody is how a concept is to be tuned; numbers that are not given are the method's own.
type tuneBody struct {
	Method       *string  `json:"method"`
	Steps        *int     `json:"steps"`
	LearningRate *float64 `json:"learning_rate"`
	Batch        *int     `json:"batch"`
	Accumulate   *int     `json:"accumulate"`
	Memory       *string  `json:"memory"`
	Resolution   *int     `json:"resolution"`
	Rank         *int     `json:"rank"`
	Vectors      *int     `json:"vectors"`
	TextEncoder  *bool    `json:"text_encoder"`
	Seed         *uint64  `json:"seed"`
	Captions     *string  `json:"captions"`
	PreviewEvery *int     `json:"preview_every"`
	Samples      []string `json:"samples"`
}

// tuneLiterals are the fields of a form that are numbers and truths.
var tuneLiterals = []string{"text_encoder", "steps", "learning_rate", "batch", "accumulate", "resolution", "rank", "vectors", "seed", "preview_every"}

// methodBody is a way to tune a concept.
type methodBody struct {
	Name        string `json:"name"`
	Title       string `json:"title"`
	Help        string `json:"help"`
	Steps       int    `json:"steps"`
	TextEncoder bool   `json:"text_encoder"` // it can change the text encoder too
}

// tuningMethods are those that concepts can be tuned by; none where there is no worker.
func (s *Server) tuningMethods() []protocol.Method {
	if s.Jobs == nil || s.Jobs.Available() != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.Model.Tuning), func(m protocol.Method) bool { return m.NeedsEncoder && s.Model.Encoder == "" })
}

func bodyOfMethods(methods []protocol.Method) []methodBody {
	bodies := []methodBody{}
	for _, m := range methods {
		bodies = append(bodies, methodBody{m.Name, m.Title, m.Help, m.Steps, m.TextEncoder})
	}
	return bodies
}

// tuneConcept is POST /v1/concepts/{id}/tune, a form with photos, or JSON that names sample photos.
func (s *Server) tuneConcept(c echo.Context) error {
	if s.Jobs == nil {
		return &problem{http.StatusNotImplemented, "tuning_unavailable", "", "this server tunes no concepts"}
	}
	if err := s.Jobs.Available(); err != nil {
		return err
	}
	if _, err := s.uploading.admit(1); err != nil {
		return err
	}
	defer s.uploading.leave()
	ctx := c.Request().Context()
	stored, err := s.Store.Get(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	b, photos, err := s.readTuning(c)
	if err != nil {
		return err
	}
	settings, err := s.checkTuning(b)
	if err != nil {
		return err
	}
	if err := s.checkPhotos(ctx, photos); err != nil {
		return err
	}
	settings.Word, settings.Class = stored.Word, stored.Class
	if settings.Class == "" {
		settings.Class = s.Model.Class
	}
	job, err := s.Jobs.Add(stored.ID, settings, photos)
	if err != nil {
		return err
	}
	_, before, err := s.Jobs.Get(job.ID)
	if err != nil {
		return err
	}
	body := bodyOfJob(job, before)
	c.Response().Header().Set(echo.HeaderLocation, body.URL)
	return c.JSON(http.StatusAccepted, body)
}

// readTuning reads the settings and the photos.
func (s *Server) readTuning(c echo.Context) (b tuneBody, photos [][]byte, err error) {
	mediaType, _, err := mime.ParseMediaType(c.Request().Header.Get("Content-Type"))
	if err == nil && mediaType == "application/json" {
		err = readJSON(c, &b)
	} else {
		b, photos, err = s.readTuningForm(c)
	}
	if err != nil {
		return b, nil, err
	}
	samples, err := s.readSamples(b.Samples)
	if err != nil {
		return b, nil, err
	}
	switch photos = append(photos, samples...); {
	case len(photos) == 0:
		err = &problem{http.StatusBadRequest, "missing_photo", "image", fmt.Sprintf("image is missing: send 1 to %d photos in parts named image, or name samples", maxTunedPhotos)}
	case len(photos) > maxTunedPhotos:
		err = &problem{http.StatusUnprocessableEntity, "too_many_photos", "image", fmt.Sprintf("image: at most %d photos of one person", maxTunedPhotos)}
	}
	return b, photos, err
}

// readTuningForm reads a form, in memory as all photos are.
func (s *Server) readTuningForm(c echo.Context) (b tuneBody, photos [][]byte, err error) {
	fields, samples := map[string]json.RawMessage{}, []json.RawMessage{}
	err = s.readForm(c, func(part *multipart.Part) error {
		name := strings.TrimSuffix(part.FormName(), "[]")
		if name == "image" {
			photo, err := io.ReadAll(part)
			if err != nil {
				return formError(err)
			}
			photos = append(photos, photo)
			return nil
		}
		value, err := formValue(name, part, tuneLiterals)
		if err == nil && name == "samples" {
			samples = append(samples, value)
			value, err = json.Marshal(samples)
		}
		fields[name] = value
		return err
	})
	if err != nil {
		return b, nil, err
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return b, nil, err
	}
	err = decodeJSON(body, &b)
	return b, photos, err
}

// readSamples reads sample photos by their names.
func (s *Server) readSamples(names []string) (photos [][]byte, err error) {
	if len(names) > maxTunedPhotos {
		return nil, invalid("samples", "are %d: at most %d photos are learned from", len(names), maxTunedPhotos)
	}
	for _, name := range names {
		if s.Samples == nil || !fs.ValidPath(name) || strings.ContainsRune(name, '/') || !strings.HasSuffix(name, ".png") {
			return nil, invalid("samples", "has no photo %q", clip(name))
		}
		photo, err := fs.ReadFile(s.Samples, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, invalid("samples", "has no photo %q", clip(name))
		}
		if err != nil {
			return nil, err
		}
		photos = append(photos, photo)
	}
	return photos, nil
}

// checkTuning checks the settings before a worker is asked.
func (s *Server) checkTuning(b tuneBody) (protocol.Settings, error) {
	t := protocol.Settings{
		Method: or(b.Method, protocol.Quick.Name), Steps: or(b.Steps, 0), LearningRate: or(b.LearningRate, 0), Batch: or(b.Batch, 0),
		Accumulate: or(b.Accumulate, 0), LowMemory: or(b.Memory, "") == "low", Resolution: or(b.Resolution, 0),
		Rank: or(b.Rank, 0), Vectors: or(b.Vectors, 0), TextEncoder: or(b.TextEncoder, false), Seed: or(b.Seed, 1), Captions: or(b.Captions, ""), PreviewEvery: or(b.PreviewEvery, 0),
	}
	err := firstError(
		oneOf("method", t.Method, protocol.Names(protocol.Methods)...), oneOf("captions", or(b.Captions, "portrait"), "portrait", "photo"),
		oneOf("memory", or(b.Memory, "normal"), "normal", "low"), s.checkResolution(b.Resolution), between("accumulate", or(b.Accumulate, 1), 1, maxTunedBatch),
		between("steps", or(b.Steps, 1), 1, maxTunedSteps), between("batch", or(b.Batch, 1), 1, maxTunedBatch),
		between("rank", or(b.Rank, 1), 1, maxTunedRank), between("vectors", or(b.Vectors, 1), 1, maxTunedVectors),
		between("preview_every", t.PreviewEvery, 0, maxTunedSteps), between("seed", t.Seed, 0, maxSeed),
		between("learning_rate", or(b.LearningRate, 1), 1e-8, 1),
	)
	m, known := protocol.Find(t.Method)
	switch {
	case err != nil || !known:
	case m.NeedsEncoder && s.Model.Encoder == "":
		err = &problem{http.StatusUnprocessableEntity, "method_not_servable", "method",
			fmt.Sprintf("method %s starts from what the model's encoder says, and the model that is served has none: use %s", t.Method,
				strings.Join(protocol.Names(s.tuningMethods()), " or "))}
	case t.TextEncoder && !m.TextEncoder:
		err = invalid("text_encoder", "is left as it is by %s: only %s change it", m.Name, protocol.Able(func(m protocol.Method) bool { return m.TextEncoder }))
	}
	return t, err
}

// checkResolution checks the side that photos are to be learned at, where one is given.
func (s *Server) checkResolution(side *int) error {
	multiple := max(s.Model.Multiple, 1)
	if side == nil || *side >= multiple && *side <= maxTunedSide && *side%multiple == 0 {
		return nil
	}
	return invalid("resolution", "is %d: it must be a multiple of %d up to %d; the model draws %d", *side, multiple, maxTunedSide, s.Model.Width)
}

// checkPhotos reads the photos as the worker will, so that one at fault is known at once.
func (s *Server) checkPhotos(ctx context.Context, photos [][]byte) error {
	if err := s.encoding.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.encoding.Release(1)
	for i, data := range photos {
		_, err := s.Photos.Read(ctx, data)
		if err != nil && len(photos) > 1 {
			err = fmt.Errorf("photo %d: %w", i+1, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// queue is s.Jobs, or the error where there is none.
func (s *Server) queue() (*jobs.Queue, error) {
	if s.Jobs == nil {
		return nil, jobs.ErrNotFound
	}
	return s.Jobs, nil
}

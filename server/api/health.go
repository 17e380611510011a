package api

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"likeness/encoder/concept"
)

//go:embed openapi.json
var openAPI []byte

// document is GET /openapi.json.
func (s *Server) document(c echo.Context) error {
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, openAPI)
}

// listModels is GET /v1/models, with what the page needs to know of the model.
func (s *Server) listModels(c echo.Context) error {
	type model struct {
		ID            string       `json:"id"`
		Object        string       `json:"object"`
		Created       int64        `json:"created"`
		OwnedBy       string       `json:"owned_by"`
		Size          string       `json:"size"`
		Steps         int          `json:"steps"`
		GuidanceScale float64      `json:"guidance_scale"`
		Scheduler     string       `json:"scheduler"`
		Schedulers    []string     `json:"schedulers"`
		Class         string       `json:"class"`
		MaxPhotos     int          `json:"max_photos"`
		MaxPictures   int          `json:"max_pictures"`
		MaxSteps      int          `json:"max_steps"`
		MaxGuidance   float64      `json:"max_guidance_scale"`
		MaxStrength   float64      `json:"max_concept_strength"`
		MaxUpload     int64        `json:"max_upload_bytes"`
		Tuning        []methodBody `json:"tuning_methods"`
		MaxTuned      int          `json:"max_tuning_photos"`
	}
	m := s.Model
	return c.JSON(http.StatusOK, struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{"list", []model{{
		m.ID, "model", 0, "likeness", fmt.Sprintf("%dx%d", m.Width, m.Height), m.Steps, m.GuidanceScale, m.Scheduler, m.Schedulers,
		m.Class, maxPhotos, maxPictures, maxSteps, maxGuidance, concept.MaxScale, s.MaxUpload,
		bodyOfMethods(s.tuningMethods()), maxTunedPhotos,
	}}})
}

// healthz says that the process answers.
func (s *Server) healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}

// readyTime bounds what /readyz waits for.
const readyTime = 2 * time.Second

// readyz says that the store and the networks answer too.
func (s *Server) readyz(c echo.Context) error {
	ctx, cancel := context.WithTimeout(c.Request().Context(), readyTime)
	defer cancel()
	if _, err := s.Store.List(ctx, 1, ""); err != nil {
		return err
	}
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			return &problem{http.StatusServiceUnavailable, "model_unavailable", "", "the model does not answer"}
		}
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ready"})
}

package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/server/store"
)

// conceptBody is a concept as the API shows it.
type conceptBody struct {
	ID       string             `json:"id"`
	Object   string             `json:"object"`
	Name     string             `json:"name"`
	Word     string             `json:"word"`
	Class    string             `json:"class"`
	Method   string             `json:"method"`
	Created  int64              `json:"created"` // Unix time
	Version  int                `json:"version"`
	Photos   int                `json:"photos"`
	Bytes    int                `json:"bytes"`
	Usable   bool               `json:"usable"` // made for the model that is served
	Notes    []string           `json:"notes"`
	URL      string             `json:"url"`
	ImageURL string             `json:"image_url"` // empty: it has no picture
	FileURL  string             `json:"file_url"`
	Formats  []string           `json:"formats"`              // of other programs, in which its file can be had
	Timings  map[string]float64 `json:"timings_ms,omitempty"` // of the run that made it
}

func (s *Server) body(c *concept.Concept) (conceptBody, error) {
	file, err := c.Marshal()
	url := "/v1/concepts/" + c.ID
	image := ""
	if len(c.Preview) > 0 {
		image = url + "/image"
	}
	return conceptBody{
		ID: c.ID, Object: "concept", Name: c.Name, Word: c.Word, Class: c.Class, Method: c.Method, Created: c.Created.Unix(), Version: c.Version,
		Photos: c.Photos, Bytes: len(file), Usable: s.usable(c), Notes: append([]string{}, c.Notes...),
		URL: url, ImageURL: image, FileURL: url + "/file", Formats: formats(c),
	}, err
}

// formats are those that hold something of a concept.
func formats(c *concept.Concept) []string {
	list := []string{}
	if len(c.Edit.Probe) > 0 {
		return list
	}
	if len(c.LoRA)+len(c.Coefficients)+len(c.Offsets) > 0 {
		list = append(list, string(exchange.Kohya), string(exchange.Diffusers))
	}
	if c.WordEmbeddings.Layers == 1 {
		list = append(list, string(exchange.Embedding))
	}
	return list
}

// usable tells whether the served model can draw a concept.
func (s *Server) usable(c *concept.Concept) bool {
	return c.BaseModel == s.Model.BaseModel && (len(c.Coefficients)+len(c.ImageTokens.Data) == 0 || c.Encoder == s.Model.Encoder)
}

func (s *Server) answerConcept(c echo.Context, status int, stored *concept.Concept, timings map[string]float64) error {
	body, err := s.body(stored)
	if err != nil {
		return err
	}
	body.Timings = timings
	if status == http.StatusCreated {
		c.Response().Header().Set(echo.HeaderLocation, body.URL)
	}
	return c.JSON(status, body)
}

// createConcept is POST /v1/concepts, of photos or a file. Photos that were encoded before, under the same word, class and
// model, give the stored concept back.
func (s *Server) createConcept(c echo.Context) error {
	if _, err := s.uploading.admit(1); err != nil {
		return err
	}
	defer s.uploading.leave()
	u, err := s.readUpload(c)
	if err != nil {
		return err
	}
	if u.file != nil {
		return s.importFile(c, u)
	}
	ctx, hash := c.Request().Context(), u.photoHash()
	for {
		var timings map[string]float64 // stays nil if another upload does the work
		stored, err, _ := s.encodings.Do(strings.Join([]string{hash, u.word, u.class}, " "), func() (any, error) {
			return s.encode(ctx, u, hash, &timings)
		})
		if errors.Is(err, context.Canceled) && ctx.Err() == nil {
			continue // the upload that did the work went away
		}
		if err != nil {
			return err
		}
		status := http.StatusOK
		if timings != nil {
			status = http.StatusCreated
		}
		return s.answerConcept(c, status, stored.(*concept.Concept), timings)
	}
}

// encode finds the stored concept of an upload, or makes and stores it and sets timings.
func (s *Server) encode(ctx context.Context, u *upload, hash string, timings *map[string]float64) (*concept.Concept, error) {
	same, err := s.Store.Find(ctx, store.ByPhotos, hash)
	if err != nil {
		return nil, err
	}
	for _, c := range same.Concepts {
		if c.Word == u.word && c.Class == u.class && c.BaseModel == s.Model.BaseModel && c.Encoder == s.Model.Encoder {
			return c, nil
		}
	}
	clock := newStopwatch()
	made, err := s.runEncoder(ctx, u, clock)
	if err != nil {
		return nil, err
	}
	made.ID, made.Name = store.NewID(made.Created), u.name
	if err := s.Store.Put(ctx, made); err != nil {
		return nil, err
	}
	clock.lap("store")
	*timings = clock.total()
	return made, nil
}

// runEncoder reads the photos of an upload and encodes them, when it is its turn.
func (s *Server) runEncoder(ctx context.Context, u *upload, clock *stopwatch) (*concept.Concept, error) {
	if err := s.encoding.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer s.encoding.Release(1)
	clock.lap("queue")
	var photos []*encoder.Photo
	for i, data := range u.photos {
		photo, err := s.Photos.Read(ctx, data)
		if len(u.photos) > 1 {
			if err != nil {
				return nil, fmt.Errorf("photo %d: %w", i+1, err)
			}
			for j, note := range photo.Notes {
				photo.Notes[j] = fmt.Sprintf("photo %d: %s", i+1, note)
			}
		}
		if err != nil {
			return nil, err
		}
		photos = append(photos, photo)
	}
	clock.lap("photos")
	made, err := s.Encoder.Encode(ctx, photos, u.word, u.class)
	if err != nil {
		return nil, err
	}
	clock.lap("encode")
	made.Preview, err = preview(photos[0].Image)
	return made, err
}

// preview makes the small picture that a list shows.
func preview(img image.Image) ([]byte, error) {
	for quality := 90; ; quality -= 15 {
		var b bytes.Buffer
		err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality})
		if err != nil || b.Len() <= concept.MaxPreview || quality <= 15 {
			return b.Bytes(), err
		}
	}
}

// listConcepts is GET /v1/concepts?limit=&after=.
func (s *Server) listConcepts(c echo.Context) error {
	limit := 20
	if text := c.QueryParam("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return invalid("limit", "%q is not a number from 1 to 100", clip(text))
		}
		limit = n
	}
	page, err := s.Store.List(c.Request().Context(), limit, c.QueryParam("after"))
	if err != nil {
		return err
	}
	type damaged struct {
		ID    string `json:"id"`
		Error string `json:"error"`
	}
	body := struct {
		Object  string        `json:"object"`
		Data    []conceptBody `json:"data"`
		Damaged []damaged     `json:"damaged"`
		HasMore bool          `json:"has_more"`
		Next    string        `json:"next"`
	}{"list", []conceptBody{}, []damaged{}, page.Next != "", page.Next}
	for _, stored := range page.Concepts {
		one, err := s.body(stored)
		if err != nil {
			return err
		}
		body.Data = append(body.Data, one)
	}
	for _, d := range page.Damaged {
		body.Damaged = append(body.Damaged, damaged{d.ID, problemOf(d).message})
	}
	return c.JSON(http.StatusOK, body)
}

func (s *Server) getConcept(c echo.Context) error {
	stored, err := s.Store.Get(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return s.answerConcept(c, http.StatusOK, stored, nil)
}

// changeConcept is PATCH /v1/concepts/{id}: a new name, a new word, or both.
func (s *Server) changeConcept(c echo.Context) error {
	var change struct {
		Name *string `json:"name"`
		Word *string `json:"word"`
	}
	if err := readJSON(c, &change); err != nil {
		return err
	}
	if change.Name == nil && change.Word == nil {
		return &problem{http.StatusBadRequest, "invalid_request", "", "nothing to change: give a name, a word, or both"}
	}
	if change.Word != nil {
		if err := checkWord(*change.Word); err != nil {
			return err
		}
	}
	stored, err := s.Store.Update(c.Request().Context(), c.Param("id"), func(stored *concept.Concept) error {
		if change.Name != nil {
			stored.Name = strings.TrimSpace(*change.Name)
		}
		if change.Word != nil {
			stored.Word = *change.Word
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.answerConcept(c, http.StatusOK, stored, nil)
}

func (s *Server) deleteConcept(c echo.Context) error {
	id := c.Param("id")
	if err := s.Store.Delete(c.Request().Context(), id); err != nil {
		return err
	}
	if s.Jobs != nil {
		s.Jobs.Deleted(id)
	}
	return c.JSON(http.StatusOK, map[string]any{"id": id, "object": "concept.deleted", "deleted": true})
}

// conceptImage is GET /v1/concepts/{id}/image: the small picture in it.
func (s *Server) conceptImage(c echo.Context) error {
	stored, err := s.Store.Get(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	if len(stored.Preview) == 0 {
		return &problem{http.StatusNotFound, "not_found", "", fmt.Sprintf("concept %s has no picture", stored.ID)}
	}
	return c.Blob(http.StatusOK, http.DetectContentType(stored.Preview), stored.Preview)
}

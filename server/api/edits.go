package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
	"golang.org/x/image/draw"

	"likeness/encoder"
)

// minEditStrength is the least share of its steps that an edit may take.
const minEditStrength = 0.01

// editBody is the form of an edit, without its files.
type editBody struct {
	generationBody
	EditStrength *float64 `json:"strength"`

	InputFidelity *string `json:"input_fidelity"` // accepted from OpenAI's clients, without effect
}

// notText are the fields of an edit's form that are numbers and truths.
var notText = []string{"n", "seed", "steps", "guidance_scale", "guidance_rescale", "gate_bias", "gate_temperature", "guidance_start", "guidance_end", "cache_interval", "concept_strength", "strength", "stream", "partial_images"}

// edition is the form of POST /v1/images/edits as it is read.
type edition struct {
	files  map[string][]byte          // image, mask
	fields map[string]json.RawMessage // all others
}

// edit is POST /v1/images/edits.
func (s *Server) edit(c echo.Context) error {
	d, err := s.readEdit(c)
	if err != nil {
		return err
	}
	return s.answerDrawing(c, d)
}

// readEdit reads and checks the form of an edit, and decodes its pictures.
func (s *Server) readEdit(c echo.Context) (*drawing, error) {
	if _, err := s.uploading.admit(1); err != nil {
		return nil, err
	}
	defer s.uploading.leave()
	e := &edition{map[string][]byte{}, map[string]json.RawMessage{}}
	if err := s.readForm(c, e.add); err != nil {
		return nil, err
	}
	if e.files["image"] == nil {
		return nil, &problem{http.StatusBadRequest, "missing_image", "image", "image is missing: send the picture to edit in a part named image"}
	}
	body, err := json.Marshal(e.fields)
	if err != nil {
		return nil, err
	}
	var b editBody
	if err := decodeJSON(body, &b); err != nil {
		return nil, err
	}
	if b.EditStrength != nil {
		if err := between("strength", *b.EditStrength, minEditStrength, 1); err != nil {
			return nil, err
		}
	}
	ctx := c.Request().Context()
	d, err := s.checkDrawing(ctx, b.generationBody)
	if err != nil {
		return nil, err
	}
	d.request.Strength = or(b.EditStrength, 0)
	if err := s.readPictures(ctx, d, e.files); err != nil {
		return nil, err
	}
	if or(b.Size, "auto") == "auto" && s.Model.Fit != nil {
		size := d.request.Image.Bounds().Size()
		d.request.Width, d.request.Height = s.Model.Fit(size.X, size.Y)
	}
	return d, nil
}

// add takes one part of the form.
func (e *edition) add(part *multipart.Part) error {
	name := strings.TrimSuffix(part.FormName(), "[]")
	if name == "image" || name == "mask" {
		if e.files[name] != nil {
			return &problem{http.StatusUnprocessableEntity, "too_many_images", name, fmt.Sprintf("%s: one picture is edited at a time", name)}
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return formError(err)
		}
		e.files[name] = data
		return nil
	}
	value, err := formValue(name, part, notText)
	e.fields[name] = value
	return err
}

// formValue is the value of a form's field as JSON; the fields of literals are numbers and truths.
func formValue(name string, part io.Reader, literals []string) (json.RawMessage, error) {
	const most = 4 * maxPrompt // bytes of its characters
	value, err := io.ReadAll(io.LimitReader(part, most+1))
	if err != nil {
		return nil, formError(err)
	}
	if len(value) > most {
		return nil, &problem{http.StatusUnprocessableEntity, clip(name) + "_too_long", clip(name), fmt.Sprintf("%s has more than %d characters", clip(name), maxPrompt)}
	}
	if !utf8.Valid(value) {
		return nil, invalid(clip(name), "is not text")
	}
	if literal := bytes.TrimSpace(value); slices.Contains(literals, name) && json.Valid(literal) {
		return literal, nil
	}
	return json.Marshal(string(value))
}

// readPictures decodes image and mask into the request, and shrinks both to what a picture can be drawn from.
func (s *Server) readPictures(ctx context.Context, d *drawing, files map[string][]byte) error {
	if err := s.encoding.Acquire(ctx, 1); err != nil { // a decoded photo takes much memory
		return err
	}
	defer s.encoding.Release(1)
	picture, err := s.Photos.Decode(files["image"])
	if err != nil {
		return err
	}
	d.request.Image = shrink(picture)
	if files["mask"] == nil {
		return nil
	}
	mask, err := s.Photos.Decode(files["mask"])
	if err != nil {
		return maskError(err)
	}
	if size, other := picture.Bounds().Size(), mask.Bounds().Size(); size != other {
		return invalid("mask", "has %d×%d pixels, the image %d×%d: they must be of one size", other.X, other.Y, size.X, size.Y)
	}
	d.request.Mask = shrink(mask)
	return nil
}

func maskError(err error) error {
	var photo *encoder.PhotoError
	if !errors.As(err, &photo) {
		return err
	}
	p := photoProblem(photo, "mask: "+err.Error())
	p.param = "mask"
	return p
}

// shrink reduces a picture to sides of at most maxSide, the longest that is ever drawn.
func shrink(img image.Image) image.Image {
	size := img.Bounds().Size()
	longest := max(size.X, size.Y)
	if longest <= maxSide {
		return img
	}
	small := image.NewNRGBA(image.Rect(0, 0, max(1, size.X*maxSide/longest), max(1, size.Y*maxSide/longest)))
	draw.BiLinear.Scale(small, small.Rect, img, img.Bounds(), draw.Src, nil)
	return small
}

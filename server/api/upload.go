package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/server/store"
)

const (
	maxPhotos = encoder.MaxPhotos
	maxField  = 1 << 10 // bytes of a text field
	maxParts  = 40
)

// upload is a form with photos of one person, or with one file of another program.
type upload struct {
	photos            [][]byte
	file              []byte // nil: there is none
	fileName          string
	word, class, name string
}

// photoHash is the PhotoHash of the concept these photos give, known before they are decoded.
func (u *upload) photoHash() string {
	var photos []*encoder.Photo
	for _, photo := range u.photos {
		sum := sha256.Sum256(photo)
		photos = append(photos, &encoder.Photo{Hash: hex.EncodeToString(sum[:])})
	}
	return encoder.HashPhotos(photos)
}

// readUpload reads a multipart form part by part, in memory: photos never touch the disk.
func (s *Server) readUpload(c echo.Context) (*upload, error) {
	u := &upload{}
	if err := s.readForm(c, u.add); err != nil {
		return nil, err
	}
	if err := u.check(); err != nil {
		return nil, err
	}
	if u.class == "" && u.file == nil {
		u.class = s.Model.Class
	}
	return u, nil
}

// readForm hands the parts of a multipart form to add, one by one.
func (s *Server) readForm(c echo.Context, add func(*multipart.Part) error) error {
	r := c.Request()
	r.Body = http.MaxBytesReader(c.Response(), r.Body, s.MaxUpload)
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/form-data" || parameters["boundary"] == "" {
		return &problem{http.StatusUnsupportedMediaType, "not_a_form", "", "send the photos as multipart/form-data, in parts named image, or a file in one named file"}
	}
	form := multipart.NewReader(r.Body, parameters["boundary"])
	for n := 0; ; n++ {
		part, err := form.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return formError(err)
		}
		if n >= maxParts {
			return &problem{http.StatusBadRequest, "invalid_form", "", fmt.Sprintf("the form has more than %d parts", maxParts)}
		}
		if err := add(part); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil { // only at its end does the server notice a client going away
		return formError(err)
	}
	return bodyRead(c)
}

func formError(err error) error {
	var body *http.MaxBytesError
	if errors.As(err, &body) {
		return err
	}
	return &problem{http.StatusBadRequest, "invalid_form", "", "the form is cut short or malformed"}
}

// add takes one part of the form.
func (u *upload) add(part *multipart.Part) error {
	name := part.FormName()
	switch name {
	case "image", "image[]":
		if len(u.photos) == maxPhotos {
			return &problem{http.StatusUnprocessableEntity, "too_many_photos", "image", fmt.Sprintf("image: at most %d photos of one person", maxPhotos)}
		}
		photo, err := io.ReadAll(part)
		if err != nil {
			return formError(err)
		}
		u.photos = append(u.photos, photo)
		return nil
	case "file":
		if u.file != nil {
			return &problem{http.StatusUnprocessableEntity, "too_many_files", "file", "file: one LoRA, embedding or concept at a time"}
		}
		file, err := io.ReadAll(part)
		if err != nil {
			return formError(err)
		}
		if u.file, u.fileName = file, part.FileName(); u.file == nil {
			u.file = []byte{}
		}
		return nil
	case "word", "class", "name":
	default:
		return &problem{http.StatusBadRequest, "unknown_field", clip(name), fmt.Sprintf("unknown field %q: a form has image or file, word, class and name", clip(name))}
	}
	value, err := io.ReadAll(io.LimitReader(part, maxField+1))
	if err != nil {
		return formError(err)
	}
	if len(value) > maxField || !utf8.Valid(value) {
		return invalid(name, "is not a text of at most %d bytes", maxField)
	}
	text := strings.TrimSpace(string(value))
	switch name {
	case "word":
		u.word = strings.Trim(text, "<>")
	case "name":
		u.name = text
	case "class":
		u.class = text
	}
	return nil
}

func (u *upload) check() error {
	switch {
	case len(u.photos) > 0 && u.file != nil:
		return &problem{http.StatusBadRequest, "invalid_form", "file", "image and file are both there: a concept is made of one or the other"}
	case len(u.photos) == 0 && u.file == nil:
		return &problem{http.StatusBadRequest, "missing_photo", "image", "image is missing: send 1 to 4 photos in parts named image, or a LoRA or embedding in one named file"}
	case u.file != nil && u.word == "":
		return nil // the file has one
	}
	return checkWord(u.word)
}

// checkWord refuses what is not a placeholder word, or could be mistaken for an id.
func checkWord(word string) error {
	if err := concept.ValidWord(word); err != nil {
		return err
	}
	if len(word) == len(store.NewID(time.Time{})) && strings.HasPrefix(word, "c_") {
		return invalid("word", "%q looks like the id of a concept", word)
	}
	return nil
}

// clip shortens a client's text for a message.
func clip(text string) string {
	if len(text) <= 40 {
		return text
	}
	return strings.ToValidUTF8(text[:40], "") + "…"
}

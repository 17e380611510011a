package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/labstack/echo/v4"

	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/safetensors"
	"likeness/server/store"
)

// errNoExchange is the answer of a server that reads and writes photos and concepts alone.
var errNoExchange = &problem{http.StatusNotImplemented, "no_exchange", "file", "this server reads and writes no files of other programs"}

// importFile makes a concept of an uploaded file. The same file under the same word, class and model gives the stored concept back.
func (s *Server) importFile(c echo.Context, u *upload) error {
	if s.Exchange == nil {
		return errNoExchange
	}
	ctx := c.Request().Context()
	sum := sha256.Sum256(u.file)
	hash := "file:" + hex.EncodeToString(sum[:])
	clock := newStopwatch()
	if err := s.encoding.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.encoding.Release(1)
	clock.lap("queue")
	made, err := s.Exchange.Import(path.Base(strings.ReplaceAll(u.fileName, `\`, "/")), u.file, u.word, u.class)
	if err != nil {
		return fileProblem(err)
	}
	clock.lap("read")
	if made.BaseModel != s.Model.BaseModel {
		return &problem{http.StatusUnprocessableEntity, "concept_of_another_model", "file",
			fmt.Sprintf("file: the concept <%s> was made for another base model (%.12s, this is %.12s)", made.Word, made.BaseModel, s.Model.BaseModel)}
	}
	if err := checkWord(made.Word); err != nil {
		return err
	}
	stored, err := s.storedFile(ctx, hash, made)
	if err != nil {
		return err
	}
	if stored != nil {
		return s.answerConcept(c, http.StatusOK, stored, nil)
	}
	made.ID, made.PhotoHash = store.NewID(made.Created), hash
	if u.name != "" {
		made.Name = u.name
	}
	if err := s.Store.Put(ctx, made); err != nil {
		return err
	}
	clock.lap("store")
	return s.answerConcept(c, http.StatusCreated, made, clock.total())
}

// storedFile finds the concept that was made of the same file, or nil.
func (s *Server) storedFile(ctx context.Context, hash string, made *concept.Concept) (*concept.Concept, error) {
	same, err := s.Store.Find(ctx, store.ByPhotos, hash)
	if err != nil {
		return nil, err
	}
	for _, c := range same.Concepts {
		if c.Word == made.Word && c.Class == made.Class && c.BaseModel == made.BaseModel {
			return c, nil
		}
	}
	return nil, nil
}

// conceptFile is GET /v1/concepts/{id}/file?format=: the concept in its own form, or as other programs read it.
func (s *Server) conceptFile(c echo.Context) error {
	stored, err := s.Store.Get(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	var file []byte
	name := stored.Word
	switch format := c.QueryParam("format"); format {
	case "":
		file, err = stored.Marshal()
	case string(exchange.Kohya), string(exchange.Diffusers), string(exchange.Embedding):
		if s.Exchange == nil {
			return errNoExchange
		}
		name += "-" + format
		if file, err = s.Exchange.Export(stored, format); err != nil {
			err = fileProblem(err)
		}
	default:
		err = invalid("format", "%q is not kohya, diffusers or embedding; merged weights are written on the command line: bin/server export", clip(format))
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderContentDisposition, fmt.Sprintf(`attachment; filename="%s.safetensors"`, name))
	return c.Blob(http.StatusOK, echo.MIMEOctetStream, file)
}

// maxFileProblem bounds the message about a file, of which thousands of tensors may be wrong.
const maxFileProblem = 1500 // bytes

// fileProblem makes an error of Exchange that is the client's fault a problem, and leaves others as they are.
func fileProblem(err error) error {
	var (
		unusable *exchange.Error
		damaged  *concept.DamagedError
		broken   *safetensors.Error
		format   *exchange.FormatError
	)
	p := &problem{status: http.StatusUnprocessableEntity, param: "file", message: err.Error()}
	switch {
	case errors.As(err, &unusable):
		p.code = "file_unusable"
	case errors.As(err, &damaged):
		p.code = "file_damaged"
	case errors.As(err, &broken) && broken.Path == "data": // not a file of the model's
		p.code, p.message = "file_damaged", "the file is cut, damaged or no safetensors file: "+broken.Error()
	case errors.As(err, &format):
		p.code, p.param = "format_unfit", "format"
	default:
		return err
	}
	if len(p.message) > maxFileProblem {
		p.message = strings.ToValidUTF8(p.message[:maxFileProblem], "") + " …"
	}
	return p
}

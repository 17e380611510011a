package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/imageprompt"
	"likeness/models/pipeline"
	"likeness/server/jobs"
	"likeness/server/store"
)

// problem is an error as the client sees it.
type problem struct {
	status  int
	code    string
	param   string // the field at fault, if one is
	message string
}

func (p *problem) Error() string { return p.message }

// invalid is a problem with a field of the request.
func invalid(param, format string, args ...any) error {
	return &problem{http.StatusBadRequest, "invalid_parameter", param, param + " " + fmt.Sprintf(format, args...)}
}

// ErrNoEncoder is what a ConceptEncoder answers that can only use concepts.
var ErrNoEncoder = errors.New("the model that is served has no encoder: it makes no concepts")

// unlessClosed is err, or that the server is shutting down where it has cut the request short for that.
func unlessClosed(c echo.Context, err error) error {
	if errors.Is(err, context.Canceled) && errors.Is(context.Cause(c.Request().Context()), pipeline.ErrClosed) {
		return pipeline.ErrClosed
	}
	return err
}

// statusClientGone is nginx's code for a client that went away; it is only ever logged.
const statusClientGone = 499

// problemOf is the one place where an error becomes a status. What is not known is the server's own fault, and its text
// stays in the log.
func problemOf(err error) *problem {
	var (
		known   *problem
		route   *echo.HTTPError
		body    *http.MaxBytesError
		photo   *encoder.PhotoError
		field   *concept.InvalidError
		scale   *concept.ScaleError
		request *pipeline.InvalidError
		foreign *encoder.OtherBaseError
		adapter *imageprompt.OtherAdapterError
		damaged *store.DamagedError
		full    *fullError
	)
	if p := jobProblem(err); p != nil {
		return p
	}
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &route):
		return &problem{route.Code, strings.ReplaceAll(strings.ToLower(http.StatusText(route.Code)), " ", "_"), "", fmt.Sprint(route.Message)}
	case errors.As(err, &body):
		return &problem{http.StatusRequestEntityTooLarge, "too_large", "", fmt.Sprintf("the request is larger than %d bytes", body.Limit)}
	case errors.As(err, &photo):
		return photoProblem(photo, err.Error())
	case errors.As(err, &field):
		return &problem{http.StatusBadRequest, "invalid_parameter", field.Field, field.Field + " " + field.Reason}
	case errors.As(err, &scale):
		return &problem{http.StatusBadRequest, "invalid_parameter", "prompt", scale.Error()}
	case errors.As(err, &request):
		return requestProblem(request)
	case errors.As(err, &foreign):
		return &problem{http.StatusUnprocessableEntity, "concept_of_another_model", "prompt", foreign.Error()}
	case errors.As(err, &adapter):
		return &problem{http.StatusUnprocessableEntity, "concept_of_another_model", "prompt", adapter.Error()}
	case errors.Is(err, ErrNoEncoder):
		return &problem{http.StatusNotImplemented, "no_encoder", "", err.Error()}
	case errors.Is(err, pipeline.ErrBusy):
		return &problem{http.StatusTooManyRequests, "queue_full", "", err.Error()}
	case errors.Is(err, pipeline.ErrClosed):
		return &problem{http.StatusServiceUnavailable, "shutting_down", "", "the server is shutting down"}
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrNoVersion):
		return &problem{http.StatusNotFound, "not_found", "", err.Error()}
	case errors.As(err, &damaged):
		return &problem{http.StatusInternalServerError, "concept_damaged", "", fmt.Sprintf("stored concept %s is damaged: delete it and upload the photos again", damaged.ID)}
	case errors.Is(err, store.ErrUnavailable):
		return &problem{http.StatusServiceUnavailable, "store_unavailable", "", "concepts cannot be read or stored at the moment"}
	case errors.As(err, &full):
		return &problem{http.StatusTooManyRequests, "queue_full", "", full.Error()}
	case errors.Is(err, context.Canceled):
		return &problem{statusClientGone, "cancelled", "", "the request was cancelled"}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{http.StatusServiceUnavailable, "timeout", "", "the request took too long"}
	}
	return &problem{http.StatusInternalServerError, "internal", "", "something went wrong in the server; its log has the details"}
}

// jobProblem is problemOf an error of package jobs; nil: it is none.
func jobProblem(err error) *problem {
	var missing *jobs.MissingError
	var full *jobs.FullError
	switch {
	case errors.As(err, &missing):
		return &problem{http.StatusNotImplemented, "tuning_unavailable", "", missing.Error()}
	case errors.As(err, &full):
		return &problem{http.StatusTooManyRequests, "queue_full", "", full.Error()}
	case errors.Is(err, jobs.ErrNotFound):
		return &problem{http.StatusNotFound, "not_found", "", err.Error()}
	case errors.Is(err, jobs.ErrClosed):
		return &problem{http.StatusServiceUnavailable, "shutting_down", "", err.Error()}
	}
	return nil
}

func photoProblem(e *encoder.PhotoError, message string) *problem {
	status := http.StatusUnprocessableEntity
	if e.Code == encoder.CodeUnsupported || e.Code == encoder.CodeNotAnImage {
		status = http.StatusUnsupportedMediaType
	}
	return &problem{status, "image_" + e.Code, "image", message}
}

func requestProblem(e *pipeline.InvalidError) *problem {
	if e.Field == "prompt" { // well written, but not to be followed
		message := "prompt " + e.Reason
		if e.Err != nil {
			message = e.Err.Error()
		}
		return &problem{http.StatusUnprocessableEntity, "invalid_prompt", e.Field, message}
	}
	param := e.Field
	if param == "width" || param == "height" {
		param = "size" // as the API has them
	}
	return &problem{http.StatusBadRequest, "invalid_parameter", param, e.Field + " " + e.Reason}
}

// errorBody is OpenAI's error object.
type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code"`
}

func (p *problem) body() errorBody {
	o := errorObject{Message: p.message, Type: "invalid_request_error", Code: p.code}
	switch {
	case p.status >= 500:
		o.Type = "server_error"
	case p.status == http.StatusTooManyRequests:
		o.Type = "rate_limit_error"
	}
	if p.param != "" {
		o.Param = &p.param
	}
	return errorBody{o}
}

// retryAfter is the seconds after which a refused request has a good chance.
const retryAfter = 2

func (s *Server) answerError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := problemOf(err)
	h := c.Response().Header()
	h.Set("Cache-Control", "no-store")
	switch p.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	case http.StatusInternalServerError:
		h.Set("X-Should-Retry", "false") // it would fail again, at the same cost
	}
	if c.Request().Method == http.MethodHead {
		err = c.NoContent(p.status)
	} else {
		err = c.JSON(p.status, p.body())
	}
	if err != nil {
		s.Log.Debug("answer not sent", "error", err, "request", requestID(c))
	}
}

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// readJSON reads a whole JSON body into v, which must know every field of it.
func readJSON(c echo.Context, v any) error {
	r := c.Request()
	data, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, maxJSON))
	if err != nil {
		var body *http.MaxBytesError
		if errors.As(err, &body) {
			return err
		}
		return &problem{http.StatusBadRequest, "invalid_json", "", "the body is cut short"}
	}
	if err := bodyRead(c); err != nil {
		return err
	}
	return decodeJSON(data, v)
}

func decodeJSON(data []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return jsonProblem(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return &problem{http.StatusBadRequest, "invalid_json", "", "the body goes on after the JSON object"}
	}
	return nil
}

func jsonProblem(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		if wrong.Field == "" {
			return &problem{http.StatusBadRequest, "invalid_json", "", "the body is not a JSON object"}
		}
		return invalid(wrong.Field, "does not take the %s given", clip(wrong.Value))
	}
	if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
		name = clip(strings.Trim(name, `"`))
		return &problem{http.StatusBadRequest, "unknown_field", name, fmt.Sprintf("unknown field %q", name)}
	}
	return &problem{http.StatusBadRequest, "invalid_json", "", "the body is not JSON: " + strings.TrimPrefix(err.Error(), "json: ")}
}

// plainJSON writes <word> as it is: no answer is ever read as HTML.
type plainJSON struct{ echo.DefaultJSONSerializer }

// Serialize implements echo.JSONSerializer.
func (plainJSON) Serialize(c echo.Context, v any, _ string) error {
	encoder := json.NewEncoder(c.Response())
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

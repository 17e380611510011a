package api

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"likeness/encoder/concept"
)

// versionBody is one version of a concept.
type versionBody struct {
	Version int      `json:"version"`
	Current bool     `json:"current"`
	Method  string   `json:"method"`
	Created int64    `json:"created"`
	Photos  int      `json:"photos"`
	Notes   []string `json:"notes"`
}

func bodyOfVersion(c *concept.Concept, current bool) versionBody {
	return versionBody{c.Version, current, c.Method, c.Created.Unix(), c.Photos, append([]string{}, c.Notes...)}
}

// listVersions is GET /v1/concepts/{id}/versions: the one in use, then those that can be restored.
func (s *Server) listVersions(c echo.Context) error {
	ctx, id := c.Request().Context(), c.Param("id")
	current, err := s.Store.Get(ctx, id)
	if err != nil {
		return err
	}
	earlier, err := s.Store.Earlier(ctx, id)
	if err != nil {
		return err
	}
	all := []versionBody{bodyOfVersion(current, true)}
	for _, v := range earlier {
		all = append(all, bodyOfVersion(v, false))
	}
	return c.JSON(http.StatusOK, map[string]any{"object": "list", "data": all})
}

// restoreConcept is POST /v1/concepts/{id}/restore.
func (s *Server) restoreConcept(c echo.Context) error {
	var wanted struct {
		Version *int `json:"version"`
	}
	if c.Request().ContentLength != 0 {
		if err := readJSON(c, &wanted); err != nil {
			return err
		}
	}
	ctx, id := c.Request().Context(), c.Param("id")
	if wanted.Version == nil {
		earlier, err := s.Store.Earlier(ctx, id)
		if err != nil {
			return err
		}
		if len(earlier) == 0 {
			return &problem{http.StatusNotFound, "not_found", "", fmt.Sprintf("concept %s has no other version", id)}
		}
		wanted.Version = &earlier[0].Version
	}
	restored, err := s.Store.Restore(ctx, id, *wanted.Version)
	if err != nil {
		return err
	}
	return s.answerConcept(c, http.StatusOK, restored, nil)
}

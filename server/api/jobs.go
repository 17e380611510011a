package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"likeness/server/jobs"
	"likeness/training/protocol"
)

const jobEventsPath = "/v1/jobs/:id/events"

// jobBody is a tuning as the API shows it.
type jobBody struct {
	ID          string      `json:"id"`
	Object      string      `json:"object"`
	Concept     string      `json:"concept"`
	Method      string      `json:"method"`
	Photos      int         `json:"photos"`
	Status      jobs.Status `json:"status"`
	Queue       int         `json:"queue"` // unfinished jobs before it
	Attempt     int         `json:"attempt"`
	MaxAttempts int         `json:"max_attempts"`
	Progress    *stepBody   `json:"progress"` // null before the first step
	Result      *resultBody `json:"result"`   // null unless it has succeeded
	Error       *jobError   `json:"error"`    // null unless it has failed
	Created     int64       `json:"created"`
	Ended       int64       `json:"ended"` // 0: not yet
	URL         string      `json:"url"`
	EventsURL   string      `json:"events_url"`
	ConceptURL  string      `json:"concept_url"`
}

// stepBody is a step of a tuning.
type stepBody struct {
	Step        int     `json:"step"`
	Steps       int     `json:"steps"`
	Loss        float64 `json:"loss"`
	HeldOut     float64 `json:"held_out_loss"`
	Best        int     `json:"best_step"`
	SecondsLeft float64 `json:"seconds_left"`
	PerSecond   float64 `json:"steps_per_second"`
}

func bodyOfStep(s protocol.Step) *stepBody {
	return &stepBody{s.Step, s.Steps, s.Loss, s.HeldOut, s.Best, s.SecondsLeft, s.PerSecond}
}

// resultBody is what came of a tuning.
type resultBody struct {
	Version int     `json:"version"` // of the concept
	Best    int     `json:"best_step"`
	Steps   int     `json:"steps"`
	First   float64 `json:"first_loss"`
	Last    float64 `json:"held_out_loss"`
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note"`
}

type jobError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func bodyOfJob(j jobs.Job, before int) jobBody {
	url := "/v1/jobs/" + j.ID
	b := jobBody{
		ID: j.ID, Object: "job", Concept: j.Concept, Method: j.Settings.Method, Photos: j.Photos, Status: j.Status, Queue: before,
		Attempt: j.Attempt, MaxAttempts: jobs.MaxAttempts, Created: j.Created.Unix(),
		URL: url, EventsURL: url + "/events", ConceptURL: "/v1/concepts/" + j.Concept,
	}
	if j.Over() {
		b.Queue, b.Ended = 0, j.Ended.Unix()
	}
	if j.Step.Step > 0 {
		b.Progress = bodyOfStep(j.Step)
	}
	if r := j.Result; r != nil {
		b.Result = &resultBody{j.Version, r.Best, r.Steps, r.First, r.Last, r.Seconds, r.Note}
	}
	if f := j.Failure; f != nil {
		b.Error = &jobError{f.Code, f.Message}
	}
	return b
}

// getJob is GET /v1/jobs/{id}.
func (s *Server) getJob(c echo.Context) error {
	queue, err := s.queue()
	if err != nil {
		return err
	}
	job, before, err := queue.Get(c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, bodyOfJob(job, before))
}

// cancelJob is DELETE /v1/jobs/{id}.
func (s *Server) cancelJob(c echo.Context) error {
	queue, err := s.queue()
	if err != nil {
		return err
	}
	job, err := queue.Cancel(c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, bodyOfJob(job, 0))
}

// Events of a job's stream.
const (
	eventJob  = "job"
	eventStep = "step"
)

// jobEvents is GET /v1/jobs/{id}/events: what has happened, then what happens, until the job is over. A client that was cut off names the
// last event it has seen, as browsers do by themselves.
func (s *Server) jobEvents(c echo.Context) error {
	queue, err := s.queue()
	if err != nil {
		return err
	}
	seen := 0
	if last := c.Request().Header.Get("Last-Event-ID"); last != "" {
		if seen, err = strconv.Atoi(last); err != nil || seen < 0 {
			return invalid("Last-Event-ID", "is %q, which is no event's number", clip(last))
		}
	}
	id, ctx := c.Param("id"), c.Request().Context()
	if _, _, err := queue.Events(id, seen); err != nil {
		return err
	}
	out := newEventStream(c)
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	for {
		events, more, err := queue.Events(id, seen)
		if err != nil {
			return s.endStream(c, out, err)
		}
		for _, e := range events {
			seen = e.Number
			if err := out.sendJob(e); err != nil {
				return err
			}
		}
		if job, _, err := queue.Get(id); err != nil || job.Over() && (len(events) == 0 || events[len(events)-1].Job.Over()) {
			return s.endStream(c, out, err)
		}
		select {
		case <-more:
		case <-alive.C:
			if err := out.write(": working\n\n"); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendJob sends an event with its number.
func (s *eventStream) sendJob(e jobs.Event) error {
	name, body := eventJob, any(struct {
		Type string `json:"type"`
		jobBody
	}{eventJob, bodyOfJob(e.Job, 0)})
	if e.Step != nil {
		name, body = eventStep, struct {
			Type string `json:"type"`
			stepBody
			B64JSON string `json:"b64_json,omitempty"`
		}{eventStep, *bodyOfStep(*e.Step), base64.StdEncoding.EncodeToString(e.Step.Preview)}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return s.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Number, name, data))
}

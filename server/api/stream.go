package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// heartbeat is how long a stream stays silent before it says that it is alive.
const heartbeat = 10 * time.Second

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func newEventStream(c echo.Context) *eventStream {
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "text/event-stream; charset=utf-8")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	c.Response().WriteHeader(http.StatusOK)
	return &eventStream{c.Response(), http.NewResponseController(c.Response())}
}

// write sends one block of the stream, within writeTime.
func (s *eventStream) write(block string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := fmt.Fprint(s.w, block); err != nil {
		return err
	}
	return s.control.Flush()
}

func (s *eventStream) send(e event) error {
	data, err := json.Marshal(e.data)
	if err != nil {
		return err
	}
	return s.write("event: " + e.name + "\ndata: " + string(data) + "\n\n")
}

// stream answers an admitted drawing with events as they happen, and [DONE]. An error after the first event is an event
// too.
func (s *Server) stream(c echo.Context, d *drawing, before int) error {
	ctx, cancel := context.WithCancel(c.Request().Context())
	defer cancel() // a client that went away needs no pictures
	// Every event has room, so that no one who reports waits for the client.
	events := make(chan event, d.n*(d.request.Steps+d.partials+4))
	failed := make(chan error, 1)
	go func() {
		_, err := s.draw(ctx, d, s.finish(c, d), func(e event) { offer(events, e) })
		failed <- err
		close(events)
	}()
	out := newEventStream(c)
	for i := range d.n {
		if err := out.send(event{eventProgress, progressEvent{eventProgress, i, 0, d.request.Steps, before}}); err != nil {
			return err
		}
	}
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	for {
		select {
		case e, more := <-events:
			if !more {
				return s.endStream(c, out, <-failed)
			}
			if err := out.send(e); err != nil {
				return err
			}
		case <-alive.C:
			if err := out.write(": working\n\n"); err != nil {
				return err
			}
		}
	}
}

// offer drops an event that has no room: a generator that reports more than it has steps is not worth waiting for.
func offer(events chan<- event, e event) {
	select {
	case events <- e:
	default:
	}
}

func (s *Server) endStream(c echo.Context, out *eventStream, err error) error {
	if err != nil {
		if sendErr := out.send(event{eventError, problemOf(unlessClosed(c, err)).body()}); sendErr != nil {
			return sendErr
		}
	}
	if doneErr := out.write("data: [DONE]\n\n"); doneErr != nil {
		return doneErr
	}
	return err
}

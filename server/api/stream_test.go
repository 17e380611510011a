package api

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"likeness/models/pipeline"
)

type message struct {
	event, data string
	fields      struct {
		Type    string
		Index   int
		Step    int
		Steps   int
		Queue   int
		Partial *int   `json:"partial_image_index"`
		B64JSON string `json:"b64_json"`
		URL     string
		Seed    uint64
		Error   *errorObject
	}
}

// stream posts a request and returns the response; messages reads one message at a time from it.
func (w *world) stream(ctx context.Context, body string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/images/generations", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { response.Body.Close() })
	return response
}

func messages(t *testing.T, response *http.Response) []message {
	t.Helper()
	var all []message
	var m message
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "":
			all = append(all, m)
			m = message{}
		case strings.HasPrefix(line, "event: "):
			m.event = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			m.data = line[len("data: "):]
			if m.data == "[DONE]" {
				continue
			}
			if err := json.Unmarshal([]byte(m.data), &m.fields); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
		default:
			t.Fatalf("line %q", line)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestStream(t *testing.T) {
	w := newWorld(t)
	response := w.stream(t.Context(), `{"prompt":"x","n":2,"seed":5,"steps":9,"stream":true,"partial_images":2}`)
	if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatal(response.Status, response.Header)
	}
	all := messages(t, response)
	if last := all[len(all)-1]; last.data != "[DONE]" || last.event != "" {
		t.Errorf("last %+v", last)
	}
	counts := map[string][2]int{}
	steps := [2]int{}
	for _, m := range all[:len(all)-1] {
		if m.event != m.fields.Type {
			t.Errorf("event %s has type %s", m.event, m.fields.Type)
		}
		i := m.fields.Index
		c := counts[m.event]
		switch m.event {
		case eventProgress:
			if m.fields.Steps != 9 || m.fields.Step != c[i] {
				t.Errorf("progress %+v after %d", m.fields, c[i])
			}
			steps[i] = m.fields.Step
		case eventPartial:
			if m.fields.Partial == nil || *m.fields.Partial != c[i] || steps[i] != 3*(c[i]+1) {
				t.Errorf("partial %+v after step %d", m.fields, steps[i])
			}
		case eventCompleted:
			if steps[i] != 9 || m.fields.Seed != uint64(5+i) {
				t.Errorf("completed %+v", m.fields)
			}
		}
		if m.event != eventProgress {
			file, err := base64.StdEncoding.DecodeString(m.fields.B64JSON)
			if err != nil {
				t.Fatal(err)
			}
			if _, colour := pixel(t, file); colour.R != uint8(5+i) {
				t.Errorf("%s of picture %d has %v", m.event, i, colour)
			}
		}
		c[i]++
		counts[m.event] = c
	}
	for event, want := range map[string][2]int{eventProgress: {10, 10}, eventPartial: {2, 2}, eventCompleted: {1, 1}} {
		if counts[event] != want {
			t.Errorf("%s came %v times, want %v", event, counts[event], want)
		}
	}
	urls := messages(t, w.stream(t.Context(), `{"prompt":"x","stream":true,"response_format":"url"}`))
	if m := urls[len(urls)-2]; m.event != eventCompleted || !strings.HasPrefix(m.fields.URL, w.url) || m.fields.B64JSON != "" {
		t.Errorf("by url: %+v", m)
	}
}

// An error before the first event is a plain answer; one after it is an event, and [DONE] still follows.
func TestStreamErrors(t *testing.T) {
	w := newWorld(t)
	if r := w.stream(t.Context(), `{"prompt":"<x>","stream":true}`); r.StatusCode != 422 || r.Header.Get("Content-Type") != "application/json" {
		t.Error(r.Status, r.Header)
	}
	w.before = func(_ context.Context, r pipeline.Request) error { return errors.New("secret") }
	all := messages(t, w.stream(t.Context(), `{"prompt":"x","n":2,"stream":true}`))
	n := len(all)
	if n < 3 || all[n-1].data != "[DONE]" || all[n-2].event != eventError || all[n-2].fields.Error == nil ||
		all[n-2].fields.Error.Code != "internal" || strings.Contains(all[n-2].data, "secret") {
		t.Errorf("%+v", all)
	}
}

// A client that goes away cancels its pictures, streamed or not, and its places are free again.
func TestClientGoesAway(t *testing.T) {
	for _, body := range []string{`{"prompt":"x","n":4,"stream":true}`, `{"prompt":"x","n":4}`} {
		w := newWorld(t)
		started, ended := make(chan bool, 9), make(chan error, 9)
		w.before = func(ctx context.Context, r pipeline.Request) error {
			started <- true
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			r, _ := http.NewRequestWithContext(ctx, "POST", w.url+"/v1/images/generations", strings.NewReader(body))
			if response, err := http.DefaultClient.Do(r); err == nil {
				bufio.NewReader(response.Body).ReadString(0)
				response.Body.Close()
			}
		}()
		for range 4 {
			<-started
		}
		cancel()
		for range 4 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		for w.drawing.count() != 0 {
			time.Sleep(time.Millisecond)
		}
		w.before = nil
		w.draw(`{"prompt":"x"}`)
	}
}

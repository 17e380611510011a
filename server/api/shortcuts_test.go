package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"likeness/models/pipeline"
)

// TestShortcuts: what a request leaves out reaches the generator, in JSON and in forms, and the answer says how steps were taken.
func TestShortcuts(t *testing.T) {
	w := newWorld(t)
	a := w.want(w.json("POST", "/v1/images/generations",
		`{"prompt":"x","steps":7,"guidance_rescale":0.7,"guidance_start":0.2,"guidance_end":0.8,"cache_interval":3}`), 200)
	r := w.requests[0]
	if r.GuidanceRescale != 0.7 || r.GuidanceStart != 0.2 || r.GuidanceEnd != 0.8 || r.CacheInterval != 3 {
		t.Errorf("the request is %+v", r)
	}
	var answer struct {
		Data []struct {
			Steps map[string]int `json:"step_counts"`
		} `json:"data"`
	}
	if err := json.Unmarshal(a.body, &answer); err != nil || fmt.Sprint(answer.Data[0].Steps) != "map[guided:0 shallow:0 whole:7]" {
		t.Errorf("%s (%v)", a.body, err)
	}
	w.draw(`{"prompt":"x"}`)
	if r := w.requests[1]; r.GuidanceRescale != 0 || r.GuidanceStart != 0 || r.GuidanceEnd != 1 || r.CacheInterval != 1 {
		t.Errorf("by default the request is %+v, want an exact one", r)
	}
	for field, values := range map[string][]string{
		"guidance_rescale": {"1.1", "-0.1", `"much"`}, "guidance_start": {"-0.1", "1.1"}, "guidance_end": {"0", "2"}, "cache_interval": {"0", "101", "1.5"},
		"gate_bias": {"0", "1.5"}, "gate_temperature": {"0", "2"},
	} {
		for _, value := range values {
			w.want(w.json("POST", "/v1/images/generations", fmt.Sprintf(`{"prompt":"x","%s":%s}`, field, value)), 400, field)
		}
	}
}

// TestRefusedBeforeItStarts: what the generator would refuse is a status of the answer, in a stream too, and takes no place in the queue.
func TestRefusedBeforeItStarts(t *testing.T) {
	w := newWorld(t)
	for _, cause := range []*pipeline.InvalidError{
		{Field: "size", Reason: "2048x2048: needs 9.10 GB, 3.20 GB are free: ask for a smaller picture, or start with --memory low"},
		{Field: "width", Reason: "100: must be a multiple of 8, at most 256"},
	} {
		w.refuse = func(pipeline.Request) error { return cause }
		for _, stream := range []string{"false", "true"} {
			a := w.want(w.json("POST", "/v1/images/generations", `{"prompt":"x","size":"2048x2048","stream":`+stream+`}`), 400, cause.Error())
			if !strings.Contains(string(a.body), `"param":"size"`) {
				t.Errorf("%s", a.body)
			}
		}
	}
	if len(w.requests) > 0 || w.drawing.count() != 0 {
		t.Errorf("%d requests began, %d are queued", len(w.requests), w.drawing.count())
	}
	w.refuse = nil
	w.draw(`{"prompt":"x"}`)
}

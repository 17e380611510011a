package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/server/jobs"
	"likeness/server/jobs/jobstest"
	"likeness/training/protocol"
)

func TestMain(m *testing.M) {
	jobstest.Main()
	os.Exit(m.Run())
}

// tuned is a world with a worker that makes a green concept.
func tuned(t *testing.T, acts ...string) *world {
	t.Helper()
	worker := jobstest.New(t, &concept.Concept{Word: "any", Class: "face", Method: "quick", BaseModel: "base", Encoder: "enc", Created: time.Now().UTC(),
		PhotoHash: "tuned", WordEmbeddings: concept.Embeddings{Layers: 1, Vectors: 1, Width: 3, Data: []float32{0, 255, 0}}}, acts...)
	return newWorld(t, func(c *Config) {
		c.Jobs = jobs.New(jobs.Config{Store: c.Store, Worker: worker.Path, Env: worker.Env, Log: c.Log, MaxQueue: 2})
		c.Samples = fstest.MapFS{"ada.png": {Data: photoFile(red)}, "index.json": {Data: []byte("[]")}}
		t.Cleanup(func() { c.Jobs.Close() })
	})
}

// tune posts a form.
func (w *world) tune(id string, parts ...part) answer {
	w.t.Helper()
	contentType, body := form(parts...)
	return w.do("POST", "/v1/concepts/"+id+"/tune", contentType, body)
}

// streamed is an event of a job.
type streamed struct {
	id, name string
	fields   struct {
		Type   string
		Status string
		Step   int
		Steps  int
		Loss   float64
		Left   float64 `json:"seconds_left"`
		B64    string  `json:"b64_json"`
		Result *resultBody
		Error  *jobError
	}
}

// events follows a job to its end, from an event on.
func (w *world) events(url, last string) []streamed {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", w.url+url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		w.t.Fatalf("%d %s", response.StatusCode, kind)
	}
	var all []streamed
	var e streamed
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "id":
			e.id = value
		case field == "event":
			e.name = value
		case value == "[DONE]":
			return all
		case field == "data":
			if err := json.Unmarshal([]byte(value), &e.fields); err != nil {
				w.t.Fatal(err)
			}
			all, e = append(all, e), streamed{}
		}
	}
	w.t.Fatalf("the stream ends without [DONE]: %v", lines.Err())
	return nil
}

func TestTune(t *testing.T) {
	w := tuned(t)
	me := w.concept("me", red)
	a := w.want(w.tune(me.ID, photo(red), photo(blue), part{"samples", "ada.png"}, part{"steps", "4"}, part{"preview_every", "2"}, part{"seed", "7"}), http.StatusAccepted)
	job := read[jobBody](w, a)
	if job.Concept != me.ID || job.Method != "quick" || job.Photos != 3 || a.header.Get("Location") != job.URL {
		t.Errorf("%+v", job)
	}
	all := w.events(job.EventsURL, "")
	var names []string
	for i, e := range all {
		if e.id != fmt.Sprint(i+1) || e.name != e.fields.Type {
			t.Errorf("event %d: %+v", i, e)
		}
		names = append(names, e.name+e.fields.Status)
	}
	if got, want := strings.Join(names, " "), "jobqueued jobrunning step step step step jobsucceeded"; got != want {
		t.Fatalf("events %s, want %s", got, want)
	}
	if s := all[5].fields; s.Step != 4 || s.Steps != 4 || s.Loss != 0.25 || s.B64 == "" {
		t.Errorf("the last step: %+v", s)
	}
	if rest := w.events(job.EventsURL, "6"); len(rest) != 1 || rest[0].fields.Result == nil {
		t.Errorf("after the sixth: %+v", rest)
	}
	if rest := w.events(job.EventsURL, "7"); len(rest) != 0 {
		t.Errorf("after the last: %+v", rest)
	}
	over := read[jobBody](w, w.want(w.get(job.URL), http.StatusOK))
	if over.Status != jobs.Succeeded || over.Attempt != 1 || over.Result.Version != 1 || over.Progress.Step != 4 || over.Ended == 0 {
		t.Errorf("%+v", over)
	}
	now := read[conceptBody](w, w.get(me.URL))
	if now.Version != 1 || now.Photos != 3 || now.Word != "me" || now.ImageURL == "" {
		t.Errorf("%+v", now)
	}
	if again := w.want(w.upload(photo(red), part{"word", "me"}), http.StatusOK); read[conceptBody](w, again).Version != 1 {
		t.Errorf("the photo of before gives %s", again.body)
	}
}

func TestTuneBySamplesAlone(t *testing.T) {
	w := tuned(t)
	me := w.concept("me", red)
	a := w.want(w.json("POST", me.URL+"/tune", `{"method":"lora","samples":["ada.png"],"rank":2,"text_encoder":true,"learning_rate":0.001,"captions":"photo",
		"batch":1,"accumulate":4,"memory":"low","resolution":64}`), http.StatusAccepted)
	asked, _, err := w.Server.Jobs.Get(read[jobBody](w, a).ID)
	want := protocol.Settings{Method: "lora", Word: "me", Class: "face", LearningRate: 0.001, Batch: 1, Accumulate: 4, Resolution: 64, LowMemory: true, Rank: 2,
		TextEncoder: true, Seed: 1, Captions: "photo"}
	if err != nil || asked.Settings != want {
		t.Errorf("the worker is asked for %+v, %v; want %+v", asked.Settings, err, want)
	}
	w.events(read[jobBody](w, a).EventsURL, "")
	if c := read[conceptBody](w, w.get(me.URL)); c.Method != "lora" || c.Photos != 1 {
		t.Errorf("%+v", c)
	}
}

func TestRestore(t *testing.T) {
	w := tuned(t)
	me := w.concept("me", red)
	w.want(w.json("POST", me.URL+"/restore", ""), http.StatusNotFound, "no other version")
	for range 2 {
		w.events(read[jobBody](w, w.want(w.tune(me.ID, photo(red)), http.StatusAccepted)).EventsURL, "")
	}
	type list struct{ Data []versionBody }
	wantVersions := func(want string) {
		t.Helper()
		var got []string
		for i, v := range read[list](w, w.want(w.get(me.URL+"/versions"), http.StatusOK)).Data {
			got = append(got, fmt.Sprint(v.Version, " ", v.Method))
			if v.Current != (i == 0) {
				t.Errorf("version %d: current %v", v.Version, v.Current)
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("versions %s, want %s", got, want)
		}
	}
	wantVersions("2 quick, 1 quick, 0 encoder")
	restored := read[conceptBody](w, w.want(w.json("POST", me.URL+"/restore", `{"version":0}`), http.StatusOK))
	if restored.Version != 0 || restored.Method != "encoder" {
		t.Errorf("%+v", restored)
	}
	wantVersions("0 encoder, 2 quick, 1 quick")
	w.want(w.json("POST", me.URL+"/restore", ""), http.StatusOK, `"version":2`)
	w.want(w.json("POST", me.URL+"/restore", `{"version":9}`), http.StatusNotFound, "version 9")
	w.want(w.json("POST", me.URL+"/restore", `{"number":9}`), http.StatusBadRequest, "number")
	w.want(w.json("POST", "/v1/concepts/c_none/restore", ""), http.StatusNotFound)
	w.want(w.get("/v1/concepts/c_none/versions"), http.StatusNotFound)
}

// What is wrong with a request is said at once, without a worker.
func TestTuneRefusals(t *testing.T) {
	w := tuned(t)
	me := w.concept("me", red)
	many := make([]part, 21)
	for i := range many {
		many[i] = photo(red)
	}
	for _, c := range []struct {
		status int
		says   string
		parts  []part
	}{
		{400, "image is missing", nil}, {422, "at most 20 photos", many},
		{415, "image_not_an_image", []part{{"image", "hello"}}}, {422, "photo 2: ", []part{photo(red), {"image", string(photoFile(red)[:90])}}},
		{400, "method", []part{photo(red), {"method", "magic"}}}, {400, "steps", []part{photo(red), {"steps", "0"}}},
		{400, "steps", []part{photo(red), {"steps", "many"}}}, {400, "learning_rate", []part{photo(red), {"learning_rate", "2"}}},
		{400, "by quick: only lora and dreambooth", []part{photo(red), {"text_encoder", "true"}}}, {400, "text_encoder", []part{photo(red), {"text_encoder", "yes"}}},
		{400, "\"memory\"", []part{photo(red), {"memory", "none"}}}, {400, "accumulate", []part{photo(red), {"accumulate", "0"}}},
		{400, "multiple of 16 up to 2048; the model draws 128", []part{photo(red), {"resolution", "100"}}}, {400, "resolution", []part{photo(red), {"resolution", "0"}}},
		{400, "captions", []part{photo(red), {"captions", "none"}}}, {400, "speed", []part{photo(red), {"speed", "9"}}},
		{400, "no photo", []part{{"samples", "../ada.png"}}}, {400, "no photo", []part{{"samples", "zoe.png"}}}, {400, "no photo", []part{{"samples", "index.json"}}},
	} {
		w.want(w.tune(me.ID, c.parts...), c.status, c.says)
	}
	w.want(w.json("POST", me.URL+"/tune", `{}`), http.StatusBadRequest, "image is missing")
	w.want(w.do("POST", me.URL+"/tune", "text/plain", []byte("hi")), http.StatusUnsupportedMediaType)
	w.want(w.tune("c_none", photo(red)), http.StatusNotFound, "c_none")
	for _, method := range []string{"GET", "DELETE"} {
		w.want(w.json(method, "/v1/jobs/job_none", ""), http.StatusNotFound, "until the server is started again")
	}
	w.want(w.get("/v1/jobs/job_none/events"), http.StatusNotFound, "job_none")
	if c := read[conceptBody](w, w.get(me.URL)); c.Version != 0 {
		t.Errorf("changed: %+v", c)
	}
}

func TestPhotoWithoutFace(t *testing.T) {
	w := tuned(t)
	me := w.concept("me", red)
	w.Server.Photos = faceless{w.Server.Photos}
	w.want(w.tune(me.ID, photo(red)), http.StatusUnprocessableEntity, "image_no_face", "no face was found")
}

func TestModelWithoutEncoder(t *testing.T) {
	w := tuned(t)
	me := w.concept("me", red)
	w.Server.Model.Encoder = ""
	w.want(w.tune(me.ID, photo(red)), http.StatusUnprocessableEntity, "method_not_servable", "use lora or textual-inversion")
	w.want(w.get("/v1/models"), http.StatusOK, `"tuning_methods":[{"name":"lora","title":"LoRA",`)
}

// The document names the methods of the protocol, wherever it names methods.
func TestMethodsInTheDocument(t *testing.T) {
	schemas := readDocument(t).Components.Schemas
	for _, name := range []string{"Tuning", "TuningWithPhotos"} {
		var documented []string
		for _, value := range schemas[name].Value.Properties["method"].Value.Enum {
			if method, ok := value.(string); ok { // null stands for none
				documented = append(documented, method)
			}
		}
		if want := protocol.Names(protocol.Methods); !slices.Equal(documented, want) {
			t.Errorf("%s has the methods %q, the protocol %q", name, documented, want)
		}
	}
}

func TestFailedAndCancelledJobs(t *testing.T) {
	w := tuned(t, jobstest.Refuse, jobstest.Slow)
	me := w.concept("me", red)
	last := func(job jobBody) streamed {
		all := w.events(job.EventsURL, "")
		return all[len(all)-1]
	}
	failed := read[jobBody](w, w.want(w.tune(me.ID, photo(red)), http.StatusAccepted))
	if e := last(failed); e.fields.Status != "failed" || e.fields.Error == nil || e.fields.Error.Message != "no, thank you" {
		t.Errorf("%+v", e)
	}
	slow := read[jobBody](w, w.want(w.tune(me.ID, photo(red)), http.StatusAccepted))
	next := read[jobBody](w, w.want(w.tune(me.ID, photo(red)), http.StatusAccepted))
	if next.Queue != 1 {
		t.Errorf("%d before the second", next.Queue)
	}
	w.want(w.tune(me.ID, photo(red)), http.StatusTooManyRequests, "queue_full")
	w.want(w.json("DELETE", slow.URL, ""), http.StatusOK, `"status":"cancelled"`)
	if e := last(slow); e.fields.Status != "cancelled" {
		t.Errorf("%+v", e)
	}
	if e := last(next); e.fields.Status != "succeeded" {
		t.Errorf("the next: %+v", e)
	}
}

// Who deletes a concept ends what is being learned of its person, running or waiting; other jobs go on.
func TestDeleteEndsTuning(t *testing.T) {
	w := tuned(t, jobstest.Slow)
	me, you := w.concept("me", red), w.concept("you", blue)
	running := read[jobBody](w, w.want(w.tune(me.ID, photo(red)), http.StatusAccepted))
	other := read[jobBody](w, w.want(w.tune(you.ID, photo(blue)), http.StatusAccepted))
	for read[jobBody](w, w.get(running.URL)).Progress == nil {
		time.Sleep(5 * time.Millisecond) // until it has begun
	}
	w.want(w.json("DELETE", me.URL, ""), http.StatusOK)
	for job, status := range map[string]string{running.EventsURL: "failed", other.EventsURL: "succeeded"} {
		all := w.events(job, "")
		e := all[len(all)-1]
		if e.fields.Status != status || status == "failed" && e.fields.Error.Code != jobs.FailedDeleted {
			t.Errorf("%+v, want it %s", e, status)
		}
	}
}

func TestNoWorker(t *testing.T) {
	path := filepath.Join(t.TempDir(), "training")
	w := newWorld(t, func(c *Config) {
		c.Jobs = jobs.New(jobs.Config{Store: c.Store, Worker: path, Log: c.Log})
		t.Cleanup(func() { c.Jobs.Close() })
	})
	me := w.concept("me", red)
	w.want(w.tune(me.ID, photo(red)), http.StatusNotImplemented, "tuning_unavailable", "scripts/setup torch && scripts/build training", path)
	w.want(w.get("/v1/models"), http.StatusOK, `"tuning_methods":[]`)
	w.Server.Jobs = nil
	w.want(w.tune(me.ID, photo(red)), http.StatusNotImplemented, "tuning_unavailable")
	w.want(w.get("/v1/jobs/job_a"), http.StatusNotFound)
}

// faceless finds no face in any photo.
type faceless struct{ PhotoReader }

func (faceless) Read(context.Context, []byte) (*encoder.Photo, error) {
	return nil, &encoder.PhotoError{Code: encoder.CodeNoFace, Reason: "no face was found"}
}

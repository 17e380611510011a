//go:build torch

package main

import (
	"bytes"
	"fmt"
	"image/png"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/server/jobs"
	"likeness/server/store"
	"likeness/server/store/bolt"
	"likeness/server/store/storetest"
	"likeness/training/protocol"
	"likeness/training/tune"
)

// asCommand makes the test binary be the command itself, in a process of its own.
const asCommand = "TRAINING_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	switch os.Getenv(asCommand) {
	case "":
	case "environment": // of the command, printed
		settle()
		fmt.Println(strings.Join(os.Environ(), "\n"))
		return
	default:
		main()
		return
	}
	os.Exit(m.Run())
}

// A server and the training command know the same methods.
func TestMethodsOfTheProtocol(t *testing.T) {
	var own []protocol.Method
	for _, m := range tune.Methods {
		own = append(own, m.Method)
	}
	if !slices.Equal(own, protocol.Methods) {
		t.Errorf("package tune has %q, the protocol %q", protocol.Names(own), protocol.Names(protocol.Methods))
	}
}

// working is a queue whose worker is this binary, on a model, and its store with a concept.
func working(t *testing.T, model string) (*jobs.Queue, store.Store, *concept.Concept) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "concepts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	me := storetest.Concept("me", "p")
	if err := db.Put(t.Context(), me); err != nil {
		t.Fatal(err)
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	queue := jobs.New(jobs.Config{Store: db, Worker: binary, Args: []string{"worker", "--model", model, "--threads", "1"},
		Env: append(os.Environ(), asCommand+"=1"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	t.Cleanup(func() { queue.Close() })
	return queue, db, me
}

// A server's jobs with the worker itself, on the bundled model: concepts are learned, and what cannot be is told without losing the worker.
func TestWorker(t *testing.T) {
	const model = "../models/demo"
	folder, err := checkpoint.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint, err := folder.Fingerprint()
	folder.Close()
	if err != nil {
		t.Fatal(err)
	}
	ada, err := os.ReadFile("../web/samples/ada.png")
	if err != nil {
		t.Fatal(err)
	}
	queue, db, me := working(t, model)

	quick := protocol.Settings{Method: "quick", Word: "me", Class: "face", Steps: 2, Batch: 2, Seed: 1, PreviewEvery: 2}
	job, events := finish(t, queue, me.ID, quick, ada)
	if job.Status != jobs.Succeeded || job.Attempt != 1 || job.Step.Step != 2 || job.Result.First <= 0 {
		t.Fatalf("%+v, %+v", job, job.Failure)
	}
	if c, err := db.Get(t.Context(), me.ID); err != nil || c.Version != 1 || c.Method != "quick" || c.BaseModel != fingerprint || len(c.Coefficients) == 0 || c.Photos != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	last := events[len(events)-2].Step
	if last == nil {
		t.Fatal("the last event but one is no step")
	}
	if img, err := png.Decode(bytes.NewReader(last.Preview)); err != nil || img.Bounds().Dx() != 128 {
		t.Errorf("preview: %v", err)
	}
	words := quick
	words.Method, words.PreviewEvery = "textual-inversion", 0
	if job, _ := finish(t, queue, me.ID, words, ada); job.Status != jobs.Succeeded || job.Attempt != 1 {
		t.Errorf("%+v, %+v", job, job.Failure)
	}
	both := words
	both.Method, both.TextEncoder = "lora", true
	if job, _ := finish(t, queue, me.ID, both, ada); job.Status != jobs.Succeeded {
		t.Errorf("%+v, %+v", job, job.Failure)
	}
	if c, err := db.Get(t.Context(), me.ID); err != nil || len(c.LoRA[checkpoint.UNet]) == 0 || len(c.LoRA[checkpoint.TextEncoder]) == 0 {
		t.Errorf("%+v, %v", c, err)
	}
	small := words
	small.PreviewEvery, small.Resolution, small.LowMemory, small.Batch, small.Accumulate = 2, 64, true, 1, 2
	job, events = finish(t, queue, me.ID, small, ada)
	if job.Status != jobs.Succeeded {
		t.Fatalf("%+v, %+v", job, job.Failure)
	}
	if img, err := png.Decode(bytes.NewReader(events[len(events)-2].Step.Preview)); err != nil || img.Bounds().Dx() != 64 {
		t.Errorf("preview of what is learned at 64 pixels: %v", err)
	}
	shifts := words
	shifts.Method = "svdiff"
	if job, _ := finish(t, queue, me.ID, shifts, ada); job.Status != jobs.Succeeded || strings.Contains(job.Result.Note, "of rank 32 holds") != (job.Result.Best > 0) {
		t.Errorf("%+v, %+v", job, job.Result)
	}
	uneven := quick
	uneven.Resolution = 100
	magic := quick
	magic.Method = "magic"
	for _, c := range []struct {
		settings   protocol.Settings
		photo      []byte
		code, says string
	}{
		{quick, []byte("hello"), "image_not_an_image", "photo 1"}, {quick, ada[:len(ada)/2], "image_damaged", "photo 1"}, {magic, ada, protocol.FailedTuning, "magic"},
		{uneven, ada, protocol.FailedTuning, "resolution 100"},
	} {
		job, _ := finish(t, queue, me.ID, c.settings, c.photo)
		if job.Status != jobs.Failed || job.Failure.Code != c.code || !strings.Contains(job.Failure.Message, c.says) || job.Attempt != 1 {
			t.Errorf("%s: %+v, %+v", c.code, job, job.Failure)
		}
	}
}

// finish waits for the end of a job.
func finish(t *testing.T, queue *jobs.Queue, id string, settings protocol.Settings, photo []byte) (jobs.Job, []jobs.Event) {
	t.Helper()
	job, err := queue.Add(id, settings, [][]byte{photo})
	if err != nil {
		t.Fatal(err)
	}
	timeout := time.After(10 * time.Minute)
	for {
		events, more, err := queue.Events(job.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		if last := events[len(events)-1]; last.Job.Over() {
			return last.Job, events
		}
		select {
		case <-more:
		case <-timeout:
			t.Fatalf("it takes too long: %+v", events[len(events)-1])
		}
	}
}

// A model that cannot be tuned fails the job and not the worker.
func TestWorkerWithoutModel(t *testing.T) {
	queue, _, me := working(t, t.TempDir())
	job, _ := finish(t, queue, me.ID, protocol.Settings{Method: "quick", Word: "me", Class: "face"}, []byte("a photo"))
	if job.Status != jobs.Failed || job.Failure.Code != protocol.FailedModel || job.Attempt != 1 {
		t.Errorf("%+v, %+v", job, job.Failure)
	}
}

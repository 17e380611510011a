package jobs

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/server/jobs/jobstest"
	"likeness/server/store"
	"likeness/server/store/bolt"
	"likeness/server/store/storetest"
	"likeness/training/protocol"
)

func TestMain(m *testing.M) {
	jobstest.Main()
	os.Exit(m.Run())
}

// bench is a queue under test, with a stored concept.
type bench struct {
	*Queue
	*jobstest.Worker
	t     *testing.T
	store store.Store
	me    *concept.Concept
}

func newBench(t *testing.T, change func(*Config), acts ...string) *bench {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "concepts.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	like := storetest.Concept("any", "tuned")
	like.ID, like.Name, like.Coefficients[0] = "", "", 42
	b := &bench{Worker: jobstest.New(t, like, acts...), t: t, store: db, me: storetest.Concept("me", "photos")}
	if err := db.Put(t.Context(), b.me); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: db, Worker: b.Path, Env: b.Env, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	b.Queue = New(cfg)
	t.Cleanup(func() { b.Queue.Close() })
	return b
}

var settings = protocol.Settings{Method: "quick", Word: "me", Class: "face", Steps: 5, PreviewEvery: 2}

func (b *bench) add() Job {
	b.t.Helper()
	j, err := b.Add(b.me.ID, settings, [][]byte{[]byte("a photo"), []byte("another")})
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

// patience bounds a wait on a busy machine.
const patience = time.Minute

// until follows a job's events until one is what the test waits for.
func (b *bench) until(id string, is func(Event) bool) []Event {
	b.t.Helper()
	timeout := time.After(patience)
	var all []Event
	for {
		events, more, err := b.Events(id, len(all))
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range events {
			if all = append(all, e); is(e) {
				return all
			}
		}
		select {
		case <-more:
		case <-timeout:
			b.t.Fatalf("it does not happen; so far %+v", all)
		}
	}
}

func isOver(e Event) bool { return e.Job.Over() }

func isStep(e Event) bool { return e.Step != nil }

// over waits for a job's end and returns it.
func (b *bench) over(id string) Job {
	b.t.Helper()
	all := b.until(id, isOver)
	return all[len(all)-1].Job
}

func (b *bench) stored() *concept.Concept {
	b.t.Helper()
	c, err := b.store.Get(b.t.Context(), b.me.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) wantFailed(j Job, code string, says ...string) {
	b.t.Helper()
	if j.Status != Failed || j.Failure == nil || j.Failure.Code != code {
		b.t.Fatalf("%s %+v, want it failed with %s", j.Status, j.Failure, code)
	}
	for _, text := range says {
		if !strings.Contains(j.Failure.Message, text) {
			b.t.Errorf("the failure %q does not say %q", j.Failure.Message, text)
		}
	}
	if c := b.stored(); c.Version != 0 || c.Coefficients[0] == 42 {
		b.t.Errorf("the concept was changed: version %d", c.Version)
	}
}

func TestTunedConceptIsANewVersion(t *testing.T) {
	b := newBench(t, nil)
	j := b.add()
	if j.Status != Queued || j.Attempt != 0 || !strings.HasPrefix(j.ID, "job_") {
		t.Errorf("added: %+v", j)
	}
	over := b.over(j.ID)
	if over.Status != Succeeded || over.Attempt != 1 || over.Version != 1 || over.Result.Steps != 5 || over.Step.Step != 5 || over.Ended.IsZero() {
		t.Fatalf("%+v, %+v", over, over.Failure)
	}
	c := b.stored()
	if c.Version != 1 || c.Coefficients[0] != 42 || c.Method != "quick" || c.Photos != 2 {
		t.Errorf("stored: %+v", c)
	}
	if c.Word != b.me.Word || c.Name != b.me.Name || c.PhotoHash != "photos" || string(c.Preview) != string(b.me.Preview) {
		t.Errorf("what people know it by has changed: %+v", c)
	}
	earlier, err := b.store.Earlier(t.Context(), b.me.ID)
	if err != nil || len(earlier) != 1 || earlier[0].Coefficients[0] != b.me.Coefficients[0] {
		t.Errorf("earlier: %v, %v", earlier, err)
	}
}

// One who comes late sees the same events, but for the pictures of steps that have been overtaken.
func TestEventsAreReplayed(t *testing.T) {
	b := newBench(t, nil)
	j := b.add()
	b.over(j.ID)
	all, _, err := b.Events(j.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for i, e := range all {
		if e.Number != i+1 {
			t.Errorf("event %d has the number %d", i, e.Number)
		}
		switch {
		case e.Step == nil:
			seen = append(seen, string(e.Job.Status))
		case e.Step.Preview != nil:
			seen = append(seen, "picture")
		default:
			seen = append(seen, "step")
		}
	}
	if got, want := strings.Join(seen, " "), "queued running step step step picture step succeeded"; got != want {
		t.Errorf("events %q, want %q", got, want)
	}
	if rest, _, err := b.Events(j.ID, 6); err != nil || len(rest) != 2 || rest[0].Number != 7 {
		t.Errorf("after the sixth: %+v, %v", rest, err)
	}
	if none, _, err := b.Events(j.ID, 99); err != nil || len(none) != 0 {
		t.Errorf("after the last: %+v, %v", none, err)
	}
}

// A worker that is lost in any way is replaced, and the job begins again.
func TestLostWorker(t *testing.T) {
	short := func(c *Config) { c.Silence = time.Second }
	for _, act := range []string{jobstest.Crash, jobstest.Killed, jobstest.Garbage, jobstest.Hang, jobstest.Deaf} {
		t.Run(act, func(t *testing.T) {
			b := newBench(t, short, act)
			if j := b.over(b.add().ID); j.Status != Succeeded || j.Attempt != 2 || b.Starts() != 2 {
				t.Fatalf("%s at attempt %d of %d workers: %+v", j.Status, j.Attempt, b.Starts(), j.Failure)
			}
		})
	}
}

// After three lost workers a job fails; the next one has its own.
func TestThreeAttempts(t *testing.T) {
	b := newBench(t, nil, jobstest.Crash, jobstest.Killed, jobstest.Killed)
	first, second := b.add(), b.add()
	j := b.over(first.ID)
	b.wantFailed(j, FailedWorker, "3 times", "signal 9", "memory")
	if j.Attempt != MaxAttempts {
		t.Errorf("%d attempts", j.Attempt)
	}
	if j := b.over(second.ID); j.Status != Succeeded || j.Attempt != 1 {
		t.Errorf("the job after it: %+v", j)
	}
}

func TestFailures(t *testing.T) {
	for act, want := range map[string]struct{ code, says string }{
		jobstest.Refuse: {protocol.FailedTuning, "no, thank you"}, jobstest.Noise: {FailedServing, "cannot be used"},
	} {
		b := newBench(t, nil, act)
		j := b.over(b.add().ID)
		b.wantFailed(j, want.code, want.says)
		if j.Attempt != 1 {
			t.Errorf("%s: %d attempts at what cannot succeed", act, j.Attempt)
		}
		if j := b.over(b.add().ID); j.Status != Succeeded || b.Starts() != 1 {
			t.Errorf("%s: the worker does not go on: %s, %d workers", act, j.Status, b.Starts())
		}
	}
	old := newBench(t, nil, jobstest.Old)
	old.wantFailed(old.over(old.add().ID), FailedWorker, "it speaks version", "build both")
}

func TestNotServable(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Check = func(*concept.Concept) error { return errors.New("its words are too long") }
	})
	b.wantFailed(b.over(b.add().ID), FailedServing, "its words are too long")
}

func TestCancel(t *testing.T) {
	b := newBench(t, nil, jobstest.Slow)
	running, waiting := b.add(), b.add()
	b.until(running.ID, isStep)
	if _, before, err := b.Get(waiting.ID); err != nil || before != 1 {
		t.Errorf("%d before the second, %v", before, err)
	}
	for _, id := range []string{waiting.ID, running.ID} {
		if j, err := b.Cancel(id); err != nil || j.Status != Cancelled || j.Ended.IsZero() {
			t.Errorf("%+v, %v", j, err)
		}
	}
	if j := b.over(b.add().ID); j.Status != Succeeded || b.Starts() != 2 {
		t.Errorf("after it: %s, %d workers", j.Status, b.Starts())
	}
	if j, err := b.Cancel(running.ID); err != nil || j.Status != Cancelled {
		t.Errorf("cancelled again: %+v, %v", j, err)
	}
	if _, err := b.Cancel("job_none"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// Nothing of the photos is kept when the job is over.
func TestPhotosAreLetGo(t *testing.T) {
	b := newBench(t, nil, jobstest.Refuse, jobstest.Tune, jobstest.Slow)
	for range 2 {
		b.over(b.add().ID)
	}
	slow := b.add()
	b.until(slow.ID, isStep)
	b.Cancel(slow.ID)
	b.Queue.mu.Lock()
	defer b.Queue.mu.Unlock()
	for _, j := range b.order {
		if j.photos != nil || !j.snapshot().Over() {
			t.Errorf("job %s still has photos", j.snapshot().Status)
		}
	}
}

// A worker without work ends, and the next job has another.
func TestIdleWorkerEnds(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Idle = 50 * time.Millisecond })
	b.over(b.add().ID)
	for deadline := time.Now().Add(patience); b.Running(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the worker stays")
		}
	}
	if j := b.over(b.add().ID); j.Status != Succeeded || j.Attempt != 1 || b.Starts() != 2 {
		t.Errorf("%s at attempt %d, %d workers", j.Status, j.Attempt, b.Starts())
	}
}

func TestWorkerIsKeptWarm(t *testing.T) {
	b := newBench(t, nil)
	b.over(b.add().ID)
	b.over(b.add().ID)
	if b.Starts() != 1 || b.stored().Version != 2 {
		t.Errorf("%d workers for two jobs, version %d", b.Starts(), b.stored().Version)
	}
}

func TestClose(t *testing.T) {
	b := newBench(t, nil, jobstest.Slow)
	running, waiting := b.add(), b.add()
	b.until(running.ID, isStep)
	if err := b.Queue.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Running() {
		t.Error("the worker outlives the queue")
	}
	for _, id := range []string{running.ID, waiting.ID} {
		b.wantFailed(b.over(id), FailedShutdown, "ask for it again")
	}
	if _, err := b.Add(b.me.ID, settings, nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxQueue, c.Life = 2, time.Nanosecond }, jobstest.Slow)
	first, second := b.add(), b.add()
	var full *FullError
	if _, err := b.Add(b.me.ID, settings, nil); !errors.As(err, &full) || full.Limit != 2 {
		t.Errorf("a third job: %v", err)
	}
	b.Cancel(first.ID)
	b.Cancel(second.ID)
	if _, _, err := b.Get(first.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("a job that has been over for long: %v", err)
	}
	if j := b.add(); j.Status != Queued {
		t.Errorf("after them: %+v", j)
	}
}

func TestNoWorker(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "training"), t.TempDir()} {
		b := newBench(t, func(c *Config) { c.Worker = path })
		var missing *MissingError
		if _, err := b.Add(b.me.ID, settings, nil); !errors.As(err, &missing) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "scripts/build training") {
			t.Errorf("%v", err)
		}
	}
}

package jobs

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/server/jobs/jobstest"
	"likeness/server/store"
)

func TestDeletedConcept(t *testing.T) {
	b := newBench(t, nil, jobstest.Slow)
	running, waiting := b.add(), b.add()
	b.until(running.ID, isStep)
	if err := b.store.Delete(t.Context(), b.me.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Cancel(running.ID); err != nil {
		t.Fatal(err)
	}
	if j := b.over(waiting.ID); j.Status != Failed || j.Failure.Code != FailedDeleted || j.Attempt != 0 {
		t.Errorf("%+v %+v", j, j.Failure)
	}
	if _, err := b.store.Get(t.Context(), b.me.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the job brought the concept back: %v", err)
	}
}

// Deleted while it is being tuned: the worker's answer finds no concept.
func TestConceptDeletedMeanwhile(t *testing.T) {
	var b *bench
	b = newBench(t, func(c *Config) {
		c.Check = func(*concept.Concept) error { return b.store.Delete(t.Context(), b.me.ID) } // between tuning and storing
	})
	if j := b.over(b.add().ID); j.Status != Failed || j.Failure.Code != FailedDeleted {
		t.Errorf("%+v %+v", j, j.Failure)
	}
}

func TestDeletedEndsItsJobs(t *testing.T) {
	b := newBench(t, nil, jobstest.Slow)
	running, waiting := b.add(), b.add()
	b.until(running.ID, isStep)
	b.Deleted("c_another")
	b.Deleted(b.me.ID)
	for _, id := range []string{running.ID, waiting.ID} {
		b.wantFailed(b.over(id), FailedDeleted)
	}
	if j := b.over(b.add().ID); j.Status != Succeeded || b.Starts() != 2 {
		t.Errorf("after it: %s, %d workers", j.Status, b.Starts())
	}
}

// unavailable is a store that cannot be written to for some times.
type unavailable struct {
	store.Store
	times atomic.Int32
}

func (u *unavailable) Revise(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error) {
	if u.times.Add(-1) >= 0 {
		return nil, store.Unavailable(errors.New("no connection"))
	}
	return u.Store.Revise(ctx, id, change)
}

// What was learned waits for a store that comes back, and is given up, with the reason, where it does not.
func TestStoreComesBack(t *testing.T) {
	for name, c := range map[string]struct {
		times int32
		wait  time.Duration
		want  Status
	}{
		"back":  {2, patience, Succeeded},
		"never": {math.MaxInt32, time.Millisecond, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, func(cfg *Config) {
				u := &unavailable{Store: cfg.Store}
				u.times.Store(c.times)
				cfg.Store, cfg.StoreWait = u, c.wait
			})
			j := b.over(b.add().ID)
			if j.Status != c.want || c.want == Failed && (j.Failure.Code != FailedStore || !strings.Contains(j.Failure.Message, "no connection")) {
				t.Errorf("%s %+v, want it %s", j.Status, j.Failure, c.want)
			}
		})
	}
}

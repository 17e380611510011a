package jobs

import (
	"context"
	"slices"
	"sync"
	"time"

	"likeness/training/protocol"
)

// job is a Job on its way.
type job struct {
	ctx  context.Context // ends when the job does
	stop context.CancelFunc

	mu     sync.Mutex
	now    Job
	photos [][]byte // until it is over
	events []Event
	more   chan struct{} // closed, and made anew, at each event
}

func newJob(ctx context.Context, now Job, photos [][]byte) *job {
	j := &job{now: now, photos: photos, more: make(chan struct{})}
	j.ctx, j.stop = context.WithCancel(ctx)
	j.tell(nil)
	return j
}

func (j *job) snapshot() Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now
}

// request is what a worker is asked; ok is false where the job is over.
func (j *job) request() (r protocol.Request, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return protocol.Request{Job: j.now.ID, Settings: j.now.Settings, Photos: j.photos}, !j.now.Over()
}

// begin counts an attempt; false: the job is over.
func (j *job) begin() bool {
	return j.change(func(now *Job) { now.Status, now.Attempt, now.Step = Running, now.Attempt+1, protocol.Step{} })
}

// end makes the job be over, for the first time only, and lets go of its photos.
func (j *job) end(status Status, failure *protocol.Failure) {
	j.change(func(now *Job) { now.Status, now.Failure, now.Ended = status, failure, time.Now() })
}

// succeed ends the job with what was learned, which is stored as a version of the concept.
func (j *job) succeed(result protocol.Done, version int) {
	result.Concept = nil
	j.change(func(now *Job) {
		now.Status, now.Result, now.Version, now.Ended = Succeeded, &result, version, time.Now()
	})
}

// change applies f to a job that is not over; false: it is.
func (j *job) change(f func(*Job)) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now.Over() {
		return false
	}
	f(&j.now)
	if j.now.Over() {
		j.photos = nil
		j.stop()
	}
	j.tell(nil)
	return true
}

// progress tells of a step.
func (j *job) progress(step protocol.Step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.now.Over() {
		return
	}
	if step.Preview != nil {
		for i := range j.events {
			if s := j.events[i].Step; s != nil && s.Preview != nil {
				bare := *s
				bare.Preview = nil
				j.events[i].Step = &bare
			}
		}
	}
	j.now.Step = step
	j.now.Step.Preview = nil
	j.tell(&step)
}

// tell adds an event. The job is locked, or nobody's yet.
func (j *job) tell(step *protocol.Step) {
	j.events = append(j.events, Event{len(j.events) + 1, step, j.now})
	close(j.more)
	j.more = make(chan struct{})
}

func (j *job) after(n int) ([]Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events[min(max(n, 0), len(j.events)):]), j.more
}

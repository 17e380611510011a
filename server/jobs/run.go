package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"likeness/encoder/concept"
	"likeness/server/store"
	"likeness/training/protocol"
)

// lostError is a worker that cannot go on with a job: another one may.
type lostError struct {
	reason    string
	lastWords string // on its standard error
}

func (e *lostError) Error() string { return e.reason }

// run takes the jobs in turn until the queue is closed, with a worker that is started when it is needed and ended when it is not.
func (q *Queue) run() {
	defer close(q.stopped)
	var w *process
	idle := time.NewTimer(q.cfg.Idle)
	defer idle.Stop()
	for q.ctx.Err() == nil {
		if j := q.next(); j != nil {
			w = q.work(j, w)
			idle.Reset(q.cfg.Idle)
			continue
		}
		select {
		case <-q.ctx.Done():
		case <-q.wake:
		case <-idle.C:
			w.end()
			w = nil
		}
	}
	w.end()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.order {
		j.end(Failed, &protocol.Failure{Code: FailedShutdown, Message: "the server was shut down before the job was over: ask for it again"})
	}
}

// work takes a job to its end with a worker, nil for none yet, and returns the one that is there then.
func (q *Queue) work(j *job, w *process) *process {
	for {
		if _, err := q.cfg.Store.Get(j.ctx, j.snapshot().Concept); errors.Is(err, store.ErrNotFound) {
			j.end(Failed, deleted)
			return w
		}
		if !j.begin() {
			return w
		}
		if w != nil && w.lost() {
			w = nil
		}
		done, err := q.attempt(j, &w)
		var failed *failedError
		var lost *lostError
		switch now := j.snapshot(); {
		case err == nil:
			q.keep(j, done)
			return w
		case errors.As(err, &failed):
			j.end(Failed, &failed.Failure)
			return w
		case errors.As(err, &lost) && now.Attempt < MaxAttempts && !now.Over():
			q.cfg.Log.Warn("tuning worker lost", "job", now.ID, "attempt", now.Attempt, "reason", lost.reason, "said", lost.lastWords)
		case errors.As(err, &lost):
			q.cfg.Log.Error("tuning worker lost", "job", now.ID, "attempt", now.Attempt, "reason", lost.reason, "said", lost.lastWords)
			j.end(Failed, &protocol.Failure{Code: FailedWorker, Message: fmt.Sprintf("the worker was lost %d times over this job: %s", now.Attempt, lost.reason)})
			return w
		default: // cancelled, or the queue is closed
			return w
		}
	}
}

var deleted = &protocol.Failure{Code: FailedDeleted, Message: "the concept was deleted before it was tuned"}

// failedError is a failure that the worker reports.
type failedError struct{ protocol.Failure }

func (e *failedError) Error() string { return e.Message }

// attempt gives the job to the worker, which it starts if there is none; one that was lost or had to be killed is no more.
func (q *Queue) attempt(j *job, w **process) (*protocol.Done, error) {
	request, ok := j.request()
	if !ok {
		return nil, context.Canceled
	}
	if *w == nil {
		started, err := start(q.cfg)
		if err != nil {
			return nil, &lostError{reason: err.Error()}
		}
		*w = started
	}
	p := *w
	done, err := q.converse(j, p, request)
	var failed *failedError
	if err != nil && !errors.As(err, &failed) {
		p.bury()
		*w = nil
	}
	return done, err
}

// converse sends a request and follows the answers.
func (q *Queue) converse(j *job, p *process, request protocol.Request) (*protocol.Done, error) {
	p.send(request)
	silence := time.NewTimer(q.cfg.Silence)
	defer silence.Stop()
	for {
		select {
		case <-j.ctx.Done():
			return nil, j.ctx.Err()
		case <-silence.C:
			return nil, &lostError{fmt.Sprintf("it said nothing for %s", q.cfg.Silence), p.complaints.last()}
		case m, ok := <-p.messages:
			if !ok {
				return nil, &lostError{p.reason(), p.complaints.last()}
			}
			silence.Reset(q.cfg.Silence)
			switch {
			case m.Hello != 0 && m.Hello != protocol.Version:
				return nil, &lostError{reason: fmt.Sprintf("it speaks version %d of the protocol, the server %d: build both from one source", m.Hello, protocol.Version)}
			case m.Job != request.Job:
			case m.Step != nil:
				j.progress(*m.Step)
			case m.Failed != nil:
				return nil, &failedError{*m.Failed}
			case m.Done != nil:
				return m.Done, nil
			}
		}
	}
}

// keep makes what was learned the concept's next version.
func (q *Queue) keep(j *job, done *protocol.Done) {
	fail := func(code, format string, err error) {
		q.cfg.Log.Error("tuned concept not stored", "job", j.snapshot().ID, "error", err)
		j.end(Failed, &protocol.Failure{Code: code, Message: fmt.Sprintf(format, err)})
	}
	learned, err := concept.Unmarshal(done.Concept)
	if err != nil {
		fail(FailedServing, "the worker's concept cannot be used: %v", err)
		return
	}
	if q.cfg.Check != nil {
		if err := q.cfg.Check(learned); err != nil {
			fail(FailedServing, "the served model cannot draw with what was learned: %v", err)
			return
		}
	}
	stored, err := q.revise(j, func(c *concept.Concept) error {
		before := *c
		*c = *learned
		// What people call it stays, and so do the photos that it is found by: those of the upload, which it still stands for.
		c.ID, c.Name, c.Word, c.PhotoHash, c.Preview = before.ID, before.Name, before.Word, before.PhotoHash, before.Preview
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		j.end(Failed, deleted)
	case err != nil:
		fail(FailedStore, "what was learned could not be stored, the concept is as it was: %v", err)
	default:
		j.succeed(*done, stored.Version)
	}
}

// revise changes a job's concept in the store, and tries again for a while where that fails itself: what was learned took longer.
func (q *Queue) revise(j *job, change func(*concept.Concept) error) (*concept.Concept, error) {
	end := time.Now().Add(q.cfg.StoreWait)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		stored, err := q.cfg.Store.Revise(j.ctx, j.snapshot().Concept, change)
		if !errors.Is(err, store.ErrUnavailable) || time.Now().Add(pause).After(end) {
			return stored, err
		}
		q.cfg.Log.Warn("tuned concept not stored yet", "job", j.snapshot().ID, "error", err)
		select {
		case <-j.ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// Package jobs tunes concepts in a worker process. Jobs wait in memory, one runs at a time, and whatever happens to the worker is that
// job's trouble alone.
package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"likeness/encoder/concept"
	"likeness/server/store"
	"likeness/training/protocol"
)

// Config is what a Queue is made of. Times and numbers that are zero take their default.
type Config struct {
	Store  store.Store
	Worker string   // the program; see package protocol
	Args   []string // its arguments
	Env    []string // its environment; nil: this process's own
	// Check tells whether the served model can draw with what was learned; nil: it can.
	Check func(*concept.Concept) error
	Log   *slog.Logger

	MaxQueue  int           // jobs that wait or run; 8
	Idle      time.Duration // how long a worker without work is kept warm; 5 minutes
	Silence   time.Duration // how long a worker with work may say nothing; 2 minutes
	StoreWait time.Duration // how long what was learned waits for a store that is unavailable; a minute
	Life      time.Duration // how long a job that is over can be asked about; an hour
}

// MaxAttempts is how often a job is given to a worker: again where the one before was lost.
const MaxAttempts = 3

// Status is what a job is at.
type Status string

// The last three are ends.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Job is a tuning as it is at the moment.
type Job struct {
	ID       string
	Concept  string // its id
	Settings protocol.Settings
	Photos   int
	Status   Status
	Attempt  int // the one that runs or was the last; 0: it has not begun
	Step     protocol.Step
	Result   *protocol.Done    // without the concept, which is stored; nil: it has not succeeded
	Version  int               // of the concept, where it has succeeded
	Failure  *protocol.Failure // nil: it has not failed
	Created  time.Time
	Ended    time.Time
}

// Over tells whether nothing will happen to the job any more.
func (j Job) Over() bool { return j.Status != Queued && j.Status != Running }

// Event is something that happened to a job.
type Event struct {
	Number int            // from 1 on
	Step   *protocol.Step // of a tuning; nil: the job's status or attempt has changed
	Job    Job            // as it was then
}

// Codes of failures besides those of the protocol.
const (
	FailedWorker   = "worker_lost"      // MaxAttempts workers were lost over it
	FailedDeleted  = "concept_deleted"  // while the job was waiting or running
	FailedServing  = "not_servable"     // the served model cannot draw with what was learned
	FailedStore    = "store_failed"     // what was learned could not be stored
	FailedShutdown = "server_shut_down" // before the job was over
)

// FullError says that too many jobs are waiting.
type FullError struct{ Limit int }

func (e *FullError) Error() string {
	return fmt.Sprintf("too many jobs are waiting already (limit %d): try again when one is over", e.Limit)
}

// MissingError says that there is no worker program.
type MissingError struct{ Path string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("concepts cannot be tuned: there is no worker program %s; scripts/setup torch && scripts/build training makes one, --worker names another", e.Path)
}

// ErrNotFound says that there is no job of that id.
var ErrNotFound = errors.New("there is no such job: jobs are in memory, for an hour after their end and until the server is started again; what they made is stored")

// ErrClosed says that the queue takes no more jobs.
var ErrClosed = errors.New("the server is shutting down")

// Queue runs jobs one after the other. It is safe for concurrent use.
type Queue struct {
	cfg     Config
	ctx     context.Context
	stop    context.CancelFunc
	stopped chan struct{}
	wake    chan struct{} // has room for one

	mu    sync.Mutex
	order []*job // in the order in which they were added
}

// New makes a Queue. The caller closes it. It starts a worker when there is work.
func New(cfg Config) *Queue {
	cfg.MaxQueue = cmp.Or(cfg.MaxQueue, 8)
	cfg.Idle, cfg.Silence, cfg.Life = cmp.Or(cfg.Idle, 5*time.Minute), cmp.Or(cfg.Silence, 2*time.Minute), cmp.Or(cfg.Life, time.Hour)
	cfg.StoreWait = cmp.Or(cfg.StoreWait, time.Minute)
	q := &Queue{cfg: cfg, stopped: make(chan struct{}), wake: make(chan struct{}, 1)}
	q.ctx, q.stop = context.WithCancel(context.Background())
	go q.run()
	return q
}

// Close ends the jobs, which fail, and the worker.
func (q *Queue) Close() error {
	q.stop()
	<-q.stopped
	return nil
}

// Available is a *MissingError where there is no worker program.
func (q *Queue) Available() error {
	if stat, err := os.Stat(q.cfg.Worker); err != nil || !stat.Mode().IsRegular() || stat.Mode()&0o111 == 0 {
		return &MissingError{q.cfg.Worker}
	}
	return nil
}

// Add puts a job behind the others: a concept of the store is to be learned from photos. Nothing is checked but that there is a worker and
// room; the errors are *MissingError, *FullError and ErrClosed.
func (q *Queue) Add(conceptID string, settings protocol.Settings, photos [][]byte) (Job, error) {
	if err := q.Available(); err != nil {
		return Job{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil {
		return Job{}, ErrClosed
	}
	q.forget()
	waiting := 0
	for _, j := range q.order {
		if !j.snapshot().Over() {
			waiting++
		}
	}
	if waiting >= q.cfg.MaxQueue {
		return Job{}, &FullError{q.cfg.MaxQueue}
	}
	j := newJob(q.ctx, Job{ID: "job_" + strings.ToLower(rand.Text()), Concept: conceptID, Settings: settings, Photos: len(photos), Status: Queued,
		Created: time.Now()}, photos)
	q.order = append(q.order, j)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return j.snapshot(), nil
}

// forget drops jobs that are over for long.
func (q *Queue) forget() {
	q.order = slices.DeleteFunc(q.order, func(j *job) bool {
		s := j.snapshot()
		return s.Over() && time.Since(s.Ended) > q.cfg.Life
	})
}

// find returns a job and how many unfinished ones are before it.
func (q *Queue) find(id string) (j *job, before int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.forget()
	for _, j := range q.order {
		s := j.snapshot()
		if s.ID == id {
			return j, before, nil
		}
		if !s.Over() {
			before++
		}
	}
	return nil, 0, fmt.Errorf("%.40q: %w", id, ErrNotFound)
}

// Get returns a job and how many unfinished ones are before it. The error is ErrNotFound.
func (q *Queue) Get(id string) (Job, int, error) {
	j, before, err := q.find(id)
	if err != nil {
		return Job{}, 0, err
	}
	return j.snapshot(), before, nil
}

// Cancel ends a job, and the worker that runs it. One that is over stays as it is. The error is ErrNotFound.
func (q *Queue) Cancel(id string) (Job, error) {
	j, _, err := q.find(id)
	if err != nil {
		return Job{}, err
	}
	j.end(Cancelled, nil)
	return j.snapshot(), nil
}

// Deleted ends the jobs of a concept that was deleted, and the worker that runs one.
func (q *Queue) Deleted(conceptID string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.order {
		if j.snapshot().Concept == conceptID {
			j.end(Failed, deleted)
		}
	}
}

// Events returns what happened to a job after the event of a number (0: everything), and a channel that is closed when more has. The
// pictures of earlier steps are not kept. The last event is one whose job is over. The error is ErrNotFound.
func (q *Queue) Events(id string, after int) ([]Event, <-chan struct{}, error) {
	j, _, err := q.find(id)
	if err != nil {
		return nil, nil, err
	}
	events, more := j.after(after)
	return events, more, nil
}

// next is the job whose turn it is; nil: there is none.
func (q *Queue) next() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.order {
		if j.snapshot().Status == Queued {
			return j
		}
	}
	return nil
}

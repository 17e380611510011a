package api

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// queue bounds work: so many pieces run at once, so many more wait in order of arrival, and any beyond are refused.
type queue struct {
	name     string
	running  int
	limit    int
	slots    *semaphore.Weighted
	mu       sync.Mutex
	admitted int // waiting or running
}

// fullError refuses work for now.
type fullError struct {
	name  string
	limit int
}

func (e *fullError) Error() string {
	return fmt.Sprintf("too many %s are waiting already (limit %d): try again in a moment", e.name, e.limit)
}

func newQueue(name string, running, limit int) *queue {
	return &queue{name: name, running: running, limit: limit, slots: semaphore.NewWeighted(int64(running))}
}

// admit takes places for n pieces, all or none, and says how many are before them that are not yet running. Each piece
// is given back with leave. The error is a *fullError.
func (q *queue) admit(n int) (ahead int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.admitted+n > q.limit {
		return 0, &fullError{q.name, q.limit}
	}
	ahead = max(0, q.admitted-q.running)
	q.admitted += n
	return ahead, nil
}

// leave gives one piece's place back.
func (q *queue) leave() {
	q.mu.Lock()
	q.admitted--
	q.mu.Unlock()
}

// count is how many pieces wait or run.
func (q *queue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admitted
}

// run waits for an admitted piece's turn and does it.
func (q *queue) run(ctx context.Context, do func() error) error {
	if err := q.slots.Acquire(ctx, 1); err != nil {
		return err
	}
	defer q.slots.Release(1)
	return do()
}

package api

import (
	"fmt"
	"sync"
)

// queue bounds work: so many pieces may be admitted and not finished, any beyond are refused.
type queue struct {
	name     string
	limit    int
	mu       sync.Mutex
	admitted int
}

// fullError refuses work for now.
type fullError struct {
	name  string
	limit int
}

func (e *fullError) Error() string {
	return fmt.Sprintf("too many %s are waiting already (limit %d): try again in a moment", e.name, e.limit)
}

// admit takes places for n pieces, all or none, and says how many were taken before. Each piece is given back with
// leave. The error is a *fullError.
func (q *queue) admit(n int) (before int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.admitted+n > q.limit {
		return 0, &fullError{q.name, q.limit}
	}
	before = q.admitted
	q.admitted += n
	return before, nil
}

// leave gives one piece's place back.
func (q *queue) leave() {
	q.mu.Lock()
	q.admitted--
	q.mu.Unlock()
}

// count is how many pieces are admitted.
func (q *queue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admitted
}

package pipeline

import (
	"slices"
	"sync"
)

// queue holds the running samples and decides whose turn it is.
type queue struct {
	mu      sync.Mutex
	samples []*sample                  // in order of arrival
	served  map[string]int             // work done for each owner that has samples, in latents
	wake    chan struct{}              // holds a value after an arrival
	room    func(batch []*sample) bool // whether so many, over one, fit into memory; nil: yes
}

func newQueue() *queue {
	return &queue{served: map[string]int{}, wake: make(chan struct{}, 1)}
}

// add lets s take part from the next turn on. An owner who comes new is level with the one served least.
func (q *queue) add(s *sample) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, here := q.served[s.owner]; !here {
		least, any := 0, false
		for _, work := range q.served {
			if !any || work < least {
				least, any = work, true
			}
		}
		q.served[s.owner] = least
	}
	q.samples = append(q.samples, s)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// fits tells whether two samples fit into one run: pictures of one size, texts of one length, both whole steps or both shallow ones.
func (s *sample) fits(other *sample) bool {
	return s.h == other.h && s.w == other.w && s.length == other.length && s.isShallow() == other.isShallow()
}

// pick chooses up to most samples that fit into one run for a turn, each time the first of the owner served least, and removes
// those whose context has ended.
func (q *queue) pick(most int) []*sample {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range slices.Clone(q.samples) {
		if err := s.ctx.Err(); err != nil {
			q.drop(s)
			s.end(err)
		}
	}
	var batch []*sample
	for len(batch) < most {
		var next *sample
		for _, s := range q.samples {
			if slices.Contains(batch, s) || len(batch) > 0 && !s.fits(batch[0]) {
				continue
			}
			if next == nil || q.served[s.owner] < q.served[next.owner] {
				next = s
			}
		}
		if next == nil || len(batch) > 0 && q.room != nil && !q.room(append(slices.Clone(batch), next)) {
			break
		}
		q.served[next.owner] += next.rows() * next.h * next.w
		batch = append(batch, next)
	}
	return batch
}

// remove takes s out.
func (q *queue) remove(s *sample) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(s)
}

func (q *queue) drop(s *sample) {
	q.samples = slices.DeleteFunc(q.samples, func(other *sample) bool { return other == s })
	if !slices.ContainsFunc(q.samples, func(other *sample) bool { return other.owner == s.owner }) {
		delete(q.served, s.owner)
	}
}

// clear ends every sample with err.
func (q *queue) clear(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.samples {
		s.end(err)
	}
	q.samples = nil
	clear(q.served)
}

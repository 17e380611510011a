package pipeline

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

// guided tells whether the step to come follows the prompt by guidance.
func (s *sample) guided() bool {
	return len(s.states) == 2 && s.step >= s.guidedFrom && s.step < s.guidedTo
}

// rows is how many rows of a run the sample takes up.
func (s *sample) rows() int {
	if s.guided() {
		return 2
	}
	return 1
}

// conditions are the texts of the rows.
func (s *sample) conditions() [][]float32 { return s.states[len(s.states)-s.rows():] }

// keeps tells whether whole steps leave a deep feature behind.
func (s *sample) keeps() bool { return s.interval > 1 }

// isShallow tells whether the step to come runs the outermost layers alone: the interval since the last whole step is not over, and that
// step had the same rows.
func (s *sample) isShallow() bool { return s.age > 0 && s.age < s.interval && s.rows() <= len(s.deep) }

// keepDeep takes the deep features [rows, C, h, w] of a batch's whole step, where samples keep them.
func keepDeep(batch []*sample, deep []float32) {
	rows := 0
	for _, s := range batch {
		rows += s.rows()
	}
	n := len(deep) / rows
	for _, s := range batch {
		s.age, s.deep = 0, s.deep[:0]
		for range s.rows() {
			if s.keeps() {
				s.deep = append(s.deep, slices.Clone(deep[:n]))
			}
			deep = deep[n:]
		}
	}
}

// packDeep is the deep features of a batch's rows.
func packDeep(batch []*sample, rows, channels int) op.Array {
	var deep []float32
	for _, s := range batch {
		for _, row := range s.deep[len(s.deep)-s.rows():] {
			deep = append(deep, row...)
		}
	}
	return op.Floats(deep, rows, channels, batch[0].h, batch[0].w)
}

// setShortcuts reads what a request leaves out of its steps.
func (s *sample) setShortcuts(r Request) {
	steps := float64(len(s.timesteps))
	s.guidedFrom, s.guidedTo = int(r.GuidanceStart*steps), int(r.GuidanceEnd*steps)
	s.interval = r.CacheInterval
}

// Exact is the request without what makes it faster and less exact: the interval of guidance, and deep features of earlier steps.
func (r Request) Exact() Request {
	r.GuidanceStart, r.GuidanceEnd, r.CacheInterval = 0, 1, 1
	return r
}

// completeShortcuts fills in and checks the interval of guidance and that of whole steps.
func (r *Request) completeShortcuts() error {
	fill(&r.GuidanceEnd, 1)
	fill(&r.CacheInterval, 1)
	switch {
	case !(r.GuidanceStart >= 0 && r.GuidanceStart < 1):
		return invalid("guidance_start", "%g: must be from 0 to less than 1", r.GuidanceStart)
	case !(r.GuidanceEnd > r.GuidanceStart && r.GuidanceEnd <= 1):
		return invalid("guidance_end", "%g: must be over guidance_start, %g, and at most 1", r.GuidanceEnd, r.GuidanceStart)
	case r.CacheInterval < 1 || r.CacheInterval > maxSteps:
		return invalid("cache_interval", "%d: must be from 1 to %d", r.CacheInterval, maxSteps)
	}
	return nil
}

// StepCounts says how the steps of a picture were taken.
type StepCounts struct {
	Whole   int // by the whole UNet
	Shallow int // by its outermost layers, on the deep feature of a step before
	Guided  int // of both, with guidance: two rows of a run in place of one
}

func (c *StepCounts) count(s *sample) {
	if s.isShallow() {
		c.Shallow++
	} else {
		c.Whole++
	}
	if s.guided() {
		c.Guided++
	}
}

func (c StepCounts) String() string {
	return fmt.Sprintf("%d steps, %d whole, %d guided", c.Whole+c.Shallow, c.Whole, c.Guided)
}

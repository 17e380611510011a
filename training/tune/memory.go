package tune

import (
	"cmp"
	"fmt"
	"strings"

	"likeness/models/memory"
)

// Plan is the memory that a tuning takes up at most, in bytes.
type Plan struct {
	Program     int64 // what the process holds before, without weights
	Weights     int64 // of the frozen networks
	Learned     int64 // numbers that are learned: as they are now, at the best step and, where they pull, at first
	Gradients   int64
	Optimizer   int64
	Activations int64 // of a step, of a measurement on held-out noise or of what is prepared, whichever is most
}

// Total is the sum.
func (p Plan) Total() int64 {
	return p.Program + p.Weights + p.Learned + p.Gradients + p.Optimizer + p.Activations
}

// String is as "needs about 6.1 GB of memory: weights 3.4, activations 2.1, …".
func (p Plan) String() string {
	var parts []string
	for _, part := range []struct {
		name  string
		bytes int64
	}{{"weights", p.Weights}, {"learned", p.Learned}, {"gradients", p.Gradients}, {"optimizer", p.Optimizer}, {"activations", p.Activations}, {"program", p.Program}} {
		if part.bytes >= memory.Gigabyte/200 {
			parts = append(parts, fmt.Sprintf("%s %.2f", part.name, float64(part.bytes)/memory.Gigabyte))
		}
	}
	return fmt.Sprintf("needs about %.2f GB of memory: %s", float64(p.Total())/memory.Gigabyte, strings.Join(parts, ", "))
}

// MemoryError is a tuning that would not fit.
type MemoryError struct {
	Plan   Plan
	Free   int64  // bytes that there are
	Advice string // what would make it fit; empty: nothing that is known
}

func (e *MemoryError) Error() string {
	advice := cmp.Or(e.Advice, "no setting makes it fit: use a smaller model or a machine with more")
	return fmt.Sprintf("the tuning %s; there are %.2f: %s", e.Plan, float64(e.Free)/memory.Gigabyte, advice)
}

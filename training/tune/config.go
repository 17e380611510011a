// Package tune learns one concept from a few photos by gradient, on a base model that stays as it is. Whatever the method, what comes
// out is a concept: inputs of a run. Of methods that move weights a whole model can be kept besides.
package tune

import (
	"errors"
	"fmt"
	"image"
	"slices"
	"strings"
	"time"

	"likeness/encoder/concept"
)

// Config says what is learned and for how long. A zero number or list takes the method's own, as Methods tells them; JSON leaves it out.
type Config struct {
	Method string
	Word   string `json:",omitempty"` // the placeholder, written <word> in prompts
	Class  string `json:",omitempty"` // the noun it is an instance of

	Steps      int     `json:",omitempty"` // of the optimizer
	LR         float64 `json:",omitempty"` // peak learning rate; of vectors and of layers where the method moves both
	Batch      int     `json:",omitempty"` // samples that are computed together
	Accumulate int     `json:",omitempty"` // batches in a step; 0: 1
	Seed       uint64  `json:",omitempty"` // of everything that is random

	Rank        int      `json:",omitempty"` // of the layers' changes that start at zero
	Alpha       float64  `json:",omitempty"` // the changes count alpha/rank times; 0: as much as the rank
	Targets     []string `json:",omitempty"` // ends of the paths of the UNet's layers that are changed; none: the encoder's, or all of attention
	TextEncoder bool     `json:",omitempty"` // lora changes the text encoder's attention too, dreambooth all but its words
	Vectors     int      `json:",omitempty"` // vectors of the word
	Init        string   `json:",omitempty"` // the noun that the word starts as; empty: the class

	// Blocks are computed again in the backward pass, and of weights' squared gradients only means of rows and columns are kept.
	LowMemory bool `json:",omitempty"`

	Captions    []string `json:",omitempty"` // what the photos show, with {} for the subject; none: Captions of portraits
	SampleEvery int      `json:",omitempty"` // steps between sample pictures; 0: none
	Run         string   `json:"-"`          // folder to resume from; empty: the run cannot be resumed
}

// Event tells of a finished step.
type Event struct {
	Step, Steps int
	Loss        float64       // of the step
	HeldOut     float64       // the loss on noise that is never trained on, as last measured
	Best        int           // the step with the lowest HeldOut so far
	Left        time.Duration // until the last step
	PerSecond   float64       // steps a second
	Sample      image.Image   // nil on most steps
	Plan        *Plan         // what memory the run takes, in the first event
	Doing       string        // what is done before the first step or after the last; the other fields are zero then
}

// DivergedError is a training whose loss is no number any more. What was best before is not lost.
type DivergedError struct {
	Step int
	Loss float64
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("step %d: the loss is %g: what was best before is kept; a lower learning rate may go further", e.Step, e.Loss)
}

// check returns all that is wrong with a configuration whose defaults are filled in.
func (c Config) check() error {
	var errs []error
	add := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if err := concept.ValidWord(c.Word); err != nil {
		errs = append(errs, err)
	}
	add(strings.TrimSpace(c.Class) == "", "class: needs the noun that the word is an instance of, such as face")
	add(c.Steps < 1, "steps %d: must be at least 1", c.Steps)
	add(c.Batch < 1 || c.Accumulate < 1, "batch %d and accumulate %d: must be at least 1", c.Batch, c.Accumulate)
	add(!(c.LR > 0), "learning rate %g: must be positive", c.LR)
	add(c.Rank < 0 || c.Rank > maxRank, "rank %d: must be from 0 to %d", c.Rank, maxRank)
	add(!(c.Alpha >= 0), "alpha %g: must not be negative", c.Alpha)
	add(c.Vectors < 0 || c.Vectors > maxVectors, "vectors %d: must be from 0 to %d", c.Vectors, maxVectors)
	add(c.SampleEvery < 0, "steps between samples %d: must not be negative", c.SampleEvery)
	add(slices.ContainsFunc(c.Captions, func(s string) bool { return !strings.Contains(s, subjectPlace) }),
		"captions %q: each needs %s where the subject stands", c.Captions, subjectPlace)
	return errors.Join(errs...)
}

// Bounds of what can be asked for.
const (
	maxRank    = 256
	maxVectors = 16
)

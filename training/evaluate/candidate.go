//go:build torch

package evaluate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"likeness/encoder"
	"likeness/training/tune"
)

const (
	allMethods  = "all"
	quickMethod = "quick" // starts from the encoder's concept
)

// quickSteps are the numbers of steps that the encoder's concept is moved by.
var quickSteps = []int{5, 20, 40}

// candidate is a way to make a concept of photos; each is a row of the comparison.
type candidate struct {
	name   string
	method string // as --methods names it; empty: no concept at all

	tuning   tune.Config // what is not the method's default; no Method: nothing is tuned
	defaults tune.Config
}

// withoutConcept is what the others are compared with.
var withoutConcept = candidate{name: "prompt alone"}

// candidates are the ways that are wanted by their methods' names, or all; the first is withoutConcept.
func candidates(wanted []string) ([]candidate, error) {
	every := []candidate{{name: encoder.Method, method: encoder.Method}}
	known := []string{encoder.Method}
	for _, m := range tune.Methods {
		known = append(known, m.Name)
		c := candidate{name: m.Name, method: m.Name, tuning: tune.Config{Method: m.Name, Word: word, Class: class, Seed: 1}, defaults: m.Defaults}
		if m.Name != quickMethod {
			every = append(every, c)
			continue
		}
		for _, steps := range quickSteps {
			c.name, c.tuning.Steps = fmt.Sprintf("encoder + %d steps", steps), steps
			every = append(every, c)
		}
	}
	for _, name := range wanted {
		if name != allMethods && !slices.Contains(known, name) {
			return nil, fmt.Errorf("--methods %s: known are %s, %s", name, allMethods, strings.Join(known, ", "))
		}
	}
	picked := []candidate{withoutConcept}
	for _, c := range every {
		if slices.Contains(wanted, allMethods) || slices.Contains(wanted, c.method) {
			picked = append(picked, c)
		}
	}
	return picked, nil
}

// folder is the name of the folder of what is made in this way.
func (c candidate) folder() string { return strings.NewReplacer(" + ", "-", " ", "-").Replace(c.name) }

// backward is what a run of a network with gradients costs, in runs without.
const backward = 3

// work is about how often the UNet runs until a concept is tuned, in rows of runs without gradients.
func (c candidate) work() int {
	steps, batch := cmp.Or(c.tuning.Steps, c.defaults.Steps), cmp.Or(c.tuning.Batch, c.defaults.Batch)
	return backward * steps * batch * max(c.tuning.Accumulate, 1)
}

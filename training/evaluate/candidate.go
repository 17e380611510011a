//go:build torch

package evaluate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"likeness/encoder"
	"likeness/training/protocol"
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

// trials are settings that every tuned method is measured with in place of its own, each with each. None is the method's own.
type trials struct {
	rates []float64
	steps []int
}

// of are the candidate with each of the settings. What goes on from the encoder's concept is called by it.
func (t trials) of(c candidate) []candidate {
	join := ","
	if c.method == quickMethod {
		c.name, join = encoder.Method, " +"
	}
	all := varied([]candidate{c}, t.steps, func(c *candidate, steps int) {
		c.name, c.tuning.Steps = fmt.Sprintf("%s%s %d steps", c.name, join, steps), steps
	})
	return varied(all, t.rates, func(c *candidate, rate float64) {
		c.name, c.tuning.LR = fmt.Sprintf("%s, rate %g", c.name, rate), rate
	})
}

// varied are the candidates with each of the values, where there are any.
func varied[T any](all []candidate, values []T, set func(*candidate, T)) []candidate {
	if len(values) == 0 {
		return all
	}
	var out []candidate
	for _, c := range all {
		for _, v := range values {
			other := c
			set(&other, v)
			out = append(out, other)
		}
	}
	return out
}

// candidates are the ways that are wanted by their methods' names, or all, as a model has the methods; the first is withoutConcept.
func candidates(wanted []string, t trials, methods []protocol.Method) ([]candidate, error) {
	every := []candidate{{name: encoder.Method, method: encoder.Method}}
	known := []string{encoder.Method}
	for _, m := range methods {
		known = append(known, m.Name)
		c := candidate{name: m.Name, method: m.Name, tuning: tune.Config{Method: m.Name, Word: word, Class: class, Seed: 1}, defaults: tune.Method{Method: m}.Defaults()}
		own := t
		if m.Name == quickMethod && len(t.steps) == 0 {
			own.steps = quickSteps
		}
		every = append(every, own.of(c)...)
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
func (c candidate) folder() string {
	return strings.NewReplacer(" + ", "-", ", ", "-", " ", "-").Replace(c.name)
}

// backward is what a run of a network with gradients costs, in runs without.
const backward = 3

// work is about how often the UNet runs until a concept is tuned, in rows of runs without gradients.
func (c candidate) work() int {
	steps, batch := cmp.Or(c.tuning.Steps, c.defaults.Steps), cmp.Or(c.tuning.Batch, c.defaults.Batch)
	return backward * steps * batch * max(c.tuning.Accumulate, 1)
}

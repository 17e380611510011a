//go:build torch

package tune

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/op"
)

// What is kept of shifted singular values is what a decomposition of the change finds, and what is left out is what is said.
func TestStrongest(t *testing.T) {
	const out, in = 6, 9
	r := rand.New(rand.NewPCG(7, 8))
	weight := make([]float32, out*in)
	for i := range weight {
		weight[i] = float32(r.NormFloat64())
	}
	l := &learner{spectra: map[string]*spectrum{"down_blocks.0.proj.weight": {weight: op.Floats(weight, out, in, 1, 1)}}}
	work := &task{base: openBase(t, newEngine(t), tinySD), learner: l}
	var told []string
	if err := work.decompose(func(what string) { told = append(told, what) }); err != nil || len(told) != 1 || !strings.Contains(told[0], "1 of 1") {
		t.Fatal(told, err)
	}
	s := l.spectra["down_blocks.0.proj.weight"]
	shifts := []float32{-0.5, 0.1, 1, -0.2, 0.3, -100} // the last value ends at zero
	changes := s.changes(shifts)
	if changes[5] != -float64(s.values.F32[5]) || math.Abs(changes[0]+0.5) > 1e-6 {
		t.Fatalf("changes %v of the values %v", changes, s.values.F32)
	}
	change := make([]float32, out*in)
	for i := range change {
		for k, by := range changes {
			change[i] += float32(float64(s.u.F32[i/in*out+k]) * by * float64(s.v.F32[k*in+i%in]))
		}
	}
	for rank := 1; rank <= 7; rank++ {
		got, left := s.strongest(changes, rank)
		want, least, err := extract(change, out, in, rank)
		if err != nil || got.Rank != want.Rank || math.Abs(left-least) > 1e-5 {
			t.Fatalf("rank %d: %d rows leave out %g, want %d and %g: %v", rank, got.Rank, left, want.Rank, least, err)
		}
		if d := distance(whole(got), whole(want)); d > 1e-5 {
			t.Errorf("rank %d: the change is %g from the nearest", rank, d)
		}
	}
}

// whole is the change [out, in].
func whole(d concept.Delta) []float32 {
	change := make([]float32, d.Out*d.In)
	for i := range change {
		for k := range d.Rank {
			change[i] += d.Up[k*d.Out+i/d.In] * d.Down[k*d.In+i%d.In]
		}
	}
	return change
}

//go:build torch

package tune

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
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
	u, values, v, err := newEngine(t).SVD(op.Floats(weight, out, in))
	if err != nil {
		t.Fatal(err)
	}
	changes := changesOf(values.F32, []float32{-0.5, 0.1, 1, -0.2, 0.3, -100}) // the last value ends at zero
	if changes[5] != -float64(values.F32[5]) || math.Abs(changes[0]+0.5) > 1e-6 {
		t.Fatalf("changes %v of the values %v", changes, values.F32)
	}
	change := make([]float32, out*in)
	for i := range change {
		for k, by := range changes {
			change[i] += float32(float64(u.F32[i/in*out+k]) * by * float64(v.F32[k*in+i%in]))
		}
	}
	for rank := 1; rank <= 7; rank++ {
		got, left := strongest(u.F32, changes, v.F32, rank)
		want, least, err := extract(change, out, in, rank)
		if err != nil || got.Rank != want.Rank || math.Abs(left-least) > 1e-5 {
			t.Fatalf("rank %d: %d rows leave out %g, want %d and %g: %v", rank, got.Rank, left, want.Rank, least, err)
		}
		if d := distance(whole(got), whole(want)); d > 1e-5 {
			t.Errorf("rank %d: the change is %g from the nearest", rank, d)
		}
	}
}

// The base is the base, bit for bit, where no singular value has shifted; targets bound what is learned, and each spectrum is told of.
func TestUnshifted(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	cfg := config("svdiff")
	cfg.Targets = []string{"attn2.to_k", "norm1"}
	l, err := svdiff.start(t.Context(), b, svdiff.complete(cfg), nil)
	if err != nil {
		t.Fatal(err)
	}
	work := &task{base: b, learner: l}
	defer work.free()
	told := 0
	if err := work.decompose(func(string) { told++ }); err != nil || told == 0 || told != len(l.spectra) {
		t.Fatal(told, len(l.spectra), err)
	}
	learned, err := work.weightsWith(l.numbers(b.Text.HiddenSize))
	weights := learned[checkpoint.UNet]
	if err != nil || len(weights) != len(l.spectra)+len(l.weights) || len(l.weights) == 0 {
		t.Fatalf("%d weights of %d and %d: %v", len(weights), len(l.spectra), len(l.weights), err)
	}
	want, err := b.weightsOf(checkpoint.UNet, func(name string, _ []int) bool { _, learned := weights[name]; return learned })
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range weights {
		if !strings.Contains(name, "attn2.to_k") && !strings.Contains(name, "norm1") || !slices.Equal(values, want["unet/"+name].F32) {
			t.Errorf("%s is not the base's", name)
		}
	}
	cfg.Targets = []string{"nose"}
	if _, err := svdiff.start(t.Context(), b, svdiff.complete(cfg), nil); err == nil || !strings.Contains(err.Error(), `targets ["nose"]`) {
		t.Errorf("targets that are not there: %v", err)
	}
}

func TestNote(t *testing.T) {
	if note := (&Result{Rank: 3}).Note(); note != "" {
		t.Error(note)
	}
	if note := (&Result{Rank: 3, Lost: 0.5}).Note(); !strings.Contains(note, "rank 3") || !strings.Contains(note, "50.0 %") {
		t.Error(note)
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

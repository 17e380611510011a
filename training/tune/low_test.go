//go:build torch

package tune

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"likeness/models/op"
)

// gradients are the loss of a batch of so many rows, the same in every run, and the gradients of all that is learned.
func gradients(t *testing.T, r *run, rows int) (loss float64, all map[string]op.Array) {
	t.Helper()
	loss, err := r.learn(r.batch(r.varied, rand.New(rand.NewPCG(1, 2)), rows, 0, rows))
	if err != nil {
		t.Fatal(err)
	}
	all = map[string]op.Array{}
	for _, g := range r.groups {
		own, err := g.params.Gradients()
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(all, own)
	}
	return loss, all
}

func TestLowMemoryGradients(t *testing.T) {
	b := openBase(t, newEngine(t), withEncoder(t))
	photos := readPhotos(t, b, 1)
	for _, m := range Methods {
		learned := func(low bool) map[string]op.Array {
			cfg := config(m.Name)
			cfg.LowMemory = low
			r := start(t, b, m, cfg, photos)
			defer r.close()
			_, all := gradients(t, r, 2)
			return all
		}
		want, got := learned(false), learned(true)
		if len(want) == 0 || len(got) != len(want) {
			t.Fatalf("%s: gradients of %d weights, want %d", m.Name, len(got), len(want))
		}
		for name, w := range want {
			for i, v := range w.F32 {
				if d := math.Abs(float64(got[name].F32[i] - v)); d > 1e-6*max(1, math.Abs(float64(v))) {
					t.Fatalf("%s: gradient of %s at %d: %g, want %g", m.Name, name, i, got[name].F32[i], v)
				}
			}
		}
	}
}

func TestLowMemoryLearns(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	photos := readPhotos(t, b, 1)
	cfg := config("dreambooth")
	cfg.LR, cfg.LowMemory = 1e-3, true
	whole := tune(t, b, photos, cfg)
	if whole.Last >= whole.First || whole.Best == 0 {
		t.Errorf("the loss on held-out noise is %g at step %d, %g before the first", whole.Last, whole.Best, whole.First)
	}
	cfg.Run = t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Tune(ctx, b, photos, cfg, func(e Event) {
		if e.Step == 3 {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if rest := tune(t, b, photos, cfg); !same(rest.Concept, whole.Concept) {
		t.Error("a resumed run differs from one that was not stopped")
	}
}

//go:build torch

package pretrain

import (
	"cmp"
	"math/rand/v2"
	"os"
	"testing"

	"likeness/encoder"
	"likeness/models/backend/torch"
	"likeness/models/op"
	"likeness/training/base"
	"likeness/training/latents"
	"likeness/training/loop"
	"likeness/training/loop/looptest"
)

// BenchmarkStep is a training step of the encoder with one photo of each person, on the frozen pack in $LIKENESS_MODEL or the bundled one.
func BenchmarkStep(b *testing.B) {
	dir := cmp.Or(os.Getenv("LIKENESS_MODEL"), "../../models/demo")
	looptest.EachPrecision(b, func(b *testing.B, engine *torch.Engine) {
		p, err := Open(engine, dir, encoder.Default)
		if err != nil {
			b.Fatal(err)
		}
		p.noise = base.NewNoise(p.Scheduler)
		p.pool = latents.New(engine, p.VAE, latents.Config{VAE: p.Architecture.VAE, Persons: looptest.Batch, Each: 1})
		if err := p.pool.Grow(looptest.Batch); err != nil {
			b.Fatal(err)
		}
		weights, err := loop.Init(p.trained(), 1)
		if err != nil {
			b.Fatal(err)
		}
		looptest.Steps(b, engine, p.loss(), weights, onePhoto(b, p), nil, p.Frozen...)
	})
}

// onePhoto is a batch with one photo of each person.
func onePhoto(b *testing.B, p *Pretraining) map[string]op.Array {
	b.Helper()
	for r, drawer := rand.New(rand.NewPCG(1, 1)), newPhotos(); ; {
		inputs, err := p.batch(drawer, looptest.Batch, r)
		if err != nil {
			b.Fatal(err)
		}
		if inputs["photos"].Dims[1] == 1 {
			return inputs
		}
	}
}

//go:build torch

package base

import (
	"cmp"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/tokenizer"
	"likeness/training/latents"
	"likeness/training/loop"
	"likeness/training/loop/looptest"
)

// BenchmarkStep is a training step of text encoder and UNet, of the architecture of the pack in $LIKENESS_MODEL or the bundled one, beside
// ONNX Runtime's forward pass of the same loss over the same batch.
func BenchmarkStep(b *testing.B) {
	dir := cmp.Or(os.Getenv("LIKENESS_MODEL"), "../../models/demo")
	looptest.EachPrecision(b, func(b *testing.B, engine *torch.Engine) {
		d := openPack(b, engine, dir)
		if err := d.pool.Grow(looptest.Batch); err != nil {
			b.Fatal(err)
		}
		inputs, err := d.batch(looptest.Batch, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			b.Fatal(err)
		}
		weights, err := loop.Init(d.loss(), 1)
		if err != nil {
			b.Fatal(err)
		}
		if err := ort.Init(ort.LibraryPath()); err != nil {
			b.Fatal(err)
		}
		graph, err := onnx.Emit(d.loss(), onnx.FromArrays(weights), onnx.Options{Name: "loss"})
		if err != nil {
			b.Fatal(err)
		}
		session, err := ort.Open(graph, ort.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer session.Close()
		var forward []time.Duration
		looptest.Steps(b, engine, d.loss(), weights, inputs, func() {
			start := time.Now()
			if _, err := session.Run(b.Context(), inputs); err != nil {
				b.Fatal(err)
			}
			forward = append(forward, time.Since(start))
		})
		b.ReportMetric(looptest.Median(forward), "forward-ms")
	})
}

// openPack prepares the training of a pack's architecture on its VAE.
func openPack(b *testing.B, engine *torch.Engine, dir string) *Diffusion {
	b.Helper()
	folder, err := checkpoint.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer folder.Close()
	frozen, err := OpenFrozen(engine, folder)
	if err != nil {
		b.Fatal(err)
	}
	tok, err := tokenizer.Open(filepath.Join(dir, checkpoint.Tokenizer))
	if err != nil {
		b.Fatal(err)
	}
	d := &Diffusion{Architecture: frozen.Architecture, Tokenizer: tok, VAE: frozen.VAE, noise: NewNoise(frozen.Scheduler)}
	d.pool = latents.New(engine, d.VAE, latents.Config{VAE: d.Architecture.VAE, Persons: looptest.Batch, Each: 1})
	return d
}

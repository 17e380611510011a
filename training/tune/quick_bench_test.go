//go:build torch

package tune

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"likeness/encoder"
	"likeness/encoder/encodertest"
	"likeness/models/backend/torch"
	"likeness/models/memory"
)

// BenchmarkQuick takes ten steps of quick, with all around them, on the checkpoint at $LIKENESS_MODEL, where it has no encoder with one of random
// weights.
func BenchmarkQuick(b *testing.B) {
	engine, err := torch.New(torch.Config{Threads: runtime.NumCPU()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(engine.Close)
	model, err := filepath.Abs(os.Getenv("LIKENESS_MODEL"))
	if err != nil {
		b.Fatal(err)
	}
	parts, err := os.ReadDir(model)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	for _, part := range parts {
		if err := os.Symlink(filepath.Join(model, part.Name()), filepath.Join(dir, part.Name())); err != nil {
			b.Fatal(err)
		}
	}
	bare, err := Open(engine, dir)
	if err != nil {
		b.Fatal(err)
	}
	if bare.encoder == nil {
		encodertest.Write(b, filepath.Join(dir, "encoder"), encoder.Default(bare.UNet.TextWidth()), bare.UNet)
	}
	bare.Close()
	base := openBase(b, engine, dir)
	at, err := base.At(side(b))
	if err != nil {
		b.Fatal(err)
	}
	photos := readPhotos(b, at, 1)
	var plan *Plan
	for b.Loop() {
		if _, err := Tune(b.Context(), at, photos, Config{Method: "quick", Word: "me", Class: "face", Steps: 10, Seed: 1}, func(e Event) {
			if e.Plan != nil {
				plan = e.Plan
			}
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(memory.Meter{Root: "/"}.Peak())/1e6, "peak-MB")
	b.ReportMetric(float64(plan.Total())/1e6, "plan-MB")
}

package pipeline_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// measured is a backend on a machine with free bytes of memory.
func measured(b pipeline.Backend, free *atomic.Int64) pipeline.Backend {
	b.Free, b.Peak = free.Load, trace.Peak
	b.Weights = func(_ string, model op.Model, _ *checkpoint.Component) (int64, error) {
		weights, err := trace.Weights(model)
		var bytes int64
		for _, w := range weights {
			bytes += 4 * int64(op.Size(w.Dims))
		}
		return bytes, err
	}
	return b
}

// refused holds that a request is refused for its size, with what it needs and what is free.
func refused(t *testing.T, e *pipeline.Engine, r pipeline.Request, says ...string) {
	t.Helper()
	_, err := e.Generate(t.Context(), r, func(pipeline.Event) { t.Error("a step was taken") })
	var invalid *pipeline.InvalidError
	if !errors.As(err, &invalid) || invalid.Field != "size" {
		t.Errorf("error is %v, want one of the size", err)
		return
	}
	for _, want := range append(says, "needs ", "are free: ask for a smaller picture") {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q in it", err, want)
		}
	}
	if checked := e.Check(r); checked == nil || checked.Error() != err.Error() {
		t.Errorf("Check answers %v, Generate %v", checked, err)
	}
}

// TestRefusesWhatCannotFit: a picture for which memory is too small is refused, others are made; what was taken once is there for the next picture.
func TestRefusesWhatCannotFit(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	e := openFolder(t, tinySD, measured(backend, &free), pipeline.EngineConfig{})
	small := pipeline.Request{Prompt: prompt, Steps: 2}
	large := pipeline.Request{Prompt: prompt, Steps: 2, Width: 128, Height: 128}
	free.Store(1000)
	refused(t, e, small, "size 64x64: ", "0.0 MB are free", "--memory low")
	free.Store(1e6)
	refused(t, e, large, "size 128x128: ")
	generate(t, e, small)
	free.Store(0)
	generate(t, e, small)
	refused(t, e, large)
	small.Image = generate(t, e, small).Image
	refused(t, e, small) // the encoder's run is missing
	free.Store(1 << 30)
	generate(t, e, large)
	generate(t, e, small)
}

// TestTilesNeedLess: a picture that does not fit whole fits in tiles.
func TestTilesNeedLess(t *testing.T) {
	var free atomic.Int64
	for tiling, fits := range map[pipeline.Tiling]bool{pipeline.TilingOff: false, pipeline.TilingOn: true} {
		free.Store(1 << 30)
		e := openFolder(t, tinySD, measured(backend, &free), pipeline.EngineConfig{Tiling: tiling})
		free.Store(1e6)
		r := pipeline.Request{Prompt: prompt, Steps: 1, Width: 128, Height: 128}
		if err := e.Check(r); (err == nil) != fits {
			t.Errorf("tiling %s: %v", tiling, err)
		}
	}
}

// TestTurnsFit: where memory is for one picture a turn, pictures that are asked for together take turns, and are the same.
func TestTurnsFit(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	r := &recorder{}
	e, usual := openFolder(t, tinySD, r.backend(measured(backend, &free)), pipeline.EngineConfig{}), open(t, pipeline.EngineConfig{})
	generate(t, e, pipeline.Request{Prompt: prompt, Steps: 1})
	free.Store(0)
	var wait sync.WaitGroup
	for seed := range uint64(4) {
		wait.Go(func() {
			request := pipeline.Request{Prompt: prompt, Steps: 3, Seed: seed}
			got, err := e.Generate(t.Context(), request, nil)
			if err != nil {
				t.Error(err)
			} else if d := furthest(t, got.Latents.F32, generate(t, usual, request).Latents.F32); d > 1e-4 {
				t.Errorf("seed %d: latents differ by %g", seed, d)
			}
		})
	}
	wait.Wait()
	if len(r.turns) != 1+4*3 {
		t.Errorf("%d turns", len(r.turns))
	}
}

// TestRefusesModels: a model whose weights do not fit is not opened; in low memory its largest component counts.
func TestRefusesModels(t *testing.T) {
	var free atomic.Int64
	free.Store(230_000)
	b := measured(backend, &free)
	_, err := pipeline.Open(tinySD, b)
	for _, want := range []string{tinySD + ": its weights need 0.", "0.2 MB are free", "with --memory low, 0."} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	b.LowMemory = true
	e := openFolder(t, tinySD, b, pipeline.EngineConfig{})
	free.Store(1000)
	if _, err := pipeline.Open(tinySD, b); err == nil || !strings.Contains(err.Error(), "its largest network needs") {
		t.Errorf("error is %v", err)
	}
	if err := e.Check(pipeline.Request{}); err == nil || strings.Contains(err.Error(), "--memory low") {
		t.Errorf("error is %v, want one without what is done already", err)
	}
	free.Store(1e6)
	generate(t, e, pipeline.Request{Prompt: prompt, Steps: 1})
}

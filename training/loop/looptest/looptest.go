//go:build torch

// Package looptest measures training steps.
package looptest

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"likeness/models/backend/torch"
	"likeness/models/op"
)

// Batch is the number of samples of a measured step.
const Batch = 16

// EachPrecision runs a benchmark on an engine of either precision, on all cores.
func EachPrecision(b *testing.B, f func(*testing.B, *torch.Engine)) {
	for precision, name := range []string{torch.Float32: "float32", torch.BFloat16: "bfloat16"} {
		b.Run(name, func(b *testing.B) {
			engine, err := torch.New(torch.Config{Threads: runtime.NumCPU(), Compute: torch.Precision(precision)})
			if err != nil {
				b.Fatal(err)
			}
			defer engine.Close()
			f(b, engine)
		})
	}
}

// Steps measures training steps on one batch as package loop takes them: forward and backward pass, clipping, AdamW, the weights' average.
// After each it calls beside, if any, to measure something else in turn. It reports the median step in ms and samples/s.
func Steps(b *testing.B, engine *torch.Engine, model op.Model, weights, inputs map[string]op.Array, beside func(), frozen ...*torch.Params) {
	b.Helper()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	params, err := engine.NewParams(weights, true)
	check(err)
	defer params.Free()
	adam, err := engine.NewAdamW(params, torch.AdamWConfig{Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: 0.01})
	check(err)
	average, err := engine.NewEMA(params)
	check(err)
	defer average.Params().Free()
	step := func() time.Duration {
		start := time.Now()
		_, err := engine.Backward(model, inputs, append([]*torch.Params{params}, frozen...)...)
		check(err)
		_, err = adam.Step(1e-5, 1)
		check(err)
		check(average.Update(0.999))
		return time.Since(start)
	}
	for range 2 { // memory is taken, caches are filled
		step()
	}
	var times []time.Duration
	for b.Loop() {
		times = append(times, step())
		if beside != nil {
			beside()
		}
	}
	ms := Median(times)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms, "ms")
	b.ReportMetric(Batch/ms*1e3, "samples/s")
}

// Median of times, in milliseconds.
func Median(times []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2].Seconds() * 1e3
}

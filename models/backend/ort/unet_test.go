package ort_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/unet"
)

// denoiser is a UNet of three levels for 16×16 latents, with offsets of rank 4 on all attention projections.
func denoiser(t testing.TB, widths ...int) (cfg unet.Config, layout *op.Layout, weights map[string]op.Array) {
	cfg = unet.Default()
	cfg.InChannels, cfg.OutChannels = 8, 8
	cfg.BlockOutChannels, cfg.LayersPerBlock, cfg.CrossAttentionDim = widths, unet.PerLevel{1}, unet.PerLevel{128}
	cfg.DownBlockTypes = []string{"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}
	cfg.UpBlockTypes = []string{"CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
	list, err := trace.Weights(unet.New(cfg, nil))
	if err != nil {
		t.Fatal(err)
	}
	weights = map[string]op.Array{}
	for i, w := range list {
		fanIn := op.Size(w.Dims) / w.Dims[0]
		weights[w.Name] = normal(uint64(i), 1/float64(fanIn), w.Dims...)
	}
	layout, err = trace.Layout(unet.New(cfg, nil), 4, func(path string) bool { return strings.Contains(path, ".attn") })
	if err != nil {
		t.Fatal(err)
	}
	return cfg, layout, weights
}

// normal draws from the normal distribution of the given variance.
func normal(seed uint64, variance float64, dims ...int) op.Array {
	a := zeros(dims...)
	source := rand.New(rand.NewPCG(seed, 0))
	for i := range a.F32 {
		a.F32[i] = float32(source.NormFloat64() * math.Sqrt(variance))
	}
	return a
}

// step draws the inputs of a denoising step over a batch; offsets [batch, 1, size] too where size is not 0.
func step(batch, size int) map[string]op.Array {
	in := map[string]op.Array{"sample": normal(1, 1, batch, 8, 16, 16), "timestep": zeros(batch), "encoder_hidden_states": normal(2, 1, batch, 77, 128)}
	for i := range batch {
		in["timestep"].F32[i] = float32(100 * i)
	}
	if size > 0 {
		in["offsets"] = normal(3, 0.01, batch, 1, size)
	}
	return in
}

// TestOffsets: zero offsets are the base model bit for bit, in a batch with a concept too; offsets of two concepts that are summed in
// one sample act, and a sample does not feel its neighbours.
func TestOffsets(t *testing.T) {
	cfg, layout, weights := denoiser(t, 32, 32, 64)
	base, personal := open(t, unet.New(cfg, nil), onnx.FromArrays(weights)), open(t, unet.New(cfg, layout), onnx.FromArrays(weights))
	n := layout.Size()
	plain := run(t, base, step(2, 0))["noise_pred"]
	in := step(2, n)
	clear(in["offsets"].F32[:n]) // the first sample is not personal
	mixed := run(t, personal, in)["noise_pred"]
	half := len(plain.F32) / 2
	if !slices.Equal(mixed.F32[:half], plain.F32[:half]) {
		t.Error("zero offsets change the base model's prediction")
	}
	if slices.Equal(mixed.F32[half:], plain.F32[half:]) {
		t.Error("offsets change nothing")
	}
	swapped := step(2, n)
	for name, a := range in {
		row := len(a.F32) / 2
		copy(swapped[name].F32, a.F32[row:])
		copy(swapped[name].F32[row:], a.F32[:row])
	}
	again := run(t, personal, swapped)["noise_pred"]
	within(t, "the same sample in another place", op.Floats(again.F32[:half], half), op.Floats(mixed.F32[half:], half), 1e-4)

	in["offsets"] = op.Floats(slices.Concat(in["offsets"].F32[:n], make([]float32, n), in["offsets"].F32[n:], make([]float32, n)), 2, 2, n)
	two := run(t, personal, in)["noise_pred"]
	within(t, "a concept and an empty one", two, mixed, 1e-4)
}

// BenchmarkUNet is a step of a UNet of 16 M parameters over 1, 2 and 8 samples, without offsets and with another concept for each
// sample. The two are measured in turn, and offsets/none is the ratio of their fastest steps.
func BenchmarkUNet(b *testing.B) {
	cfg, layout, weights := denoiser(b, 96, 160, 224)
	base := openThreads(b, unet.New(cfg, nil), onnx.FromArrays(weights), 0)
	personal := openThreads(b, unet.New(cfg, layout), onnx.FromArrays(weights), 0)
	for _, batch := range []int{1, 2, 8} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			none, offsets := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
			for b.Loop() {
				none = min(none, timed(b, base, step(batch, 0)))
				offsets = min(offsets, timed(b, personal, step(batch, layout.Size())))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(none.Seconds()*1e3, "ms/step")
			b.ReportMetric(offsets.Seconds()*1e3, "ms/step-with-offsets")
			b.ReportMetric(float64(offsets)/float64(none), "offsets/none")
		})
	}
}

func timed(b *testing.B, s *ort.Session, inputs map[string]op.Array) time.Duration {
	start := time.Now()
	run(b, s, inputs)
	return time.Since(start)
}

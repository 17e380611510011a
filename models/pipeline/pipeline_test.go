package pipeline_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// TestMain loads ONNX Runtime: without it no test here means anything.
func TestMain(m *testing.M) {
	if err := ort.Init(ort.LibraryPath()); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// tinySD is a Stable Diffusion folder of random weights, with the pictures diffusers makes of it (scripts/golden/pipeline.py).
var tinySD = filepath.Join("testdata", "tiny-sd")

const prompt = "a drawing of a cat wearing a hat"

// backend runs networks on ONNX Runtime; offsets act on the attention of the UNet's outer level.
var backend = pipeline.Backend{
	Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), onnx.Options{Name: name, OwnOps: true})
		if err != nil {
			return nil, err
		}
		return ort.Open(graph, ort.Options{Threads: 1})
	},
	Layout: func(op.Model) (*op.Layout, error) {
		const block = "down_blocks.0.attentions.0.transformer_blocks.0."
		return op.NewLayout(2, []op.Target{
			{Path: block + "attn1.to_q", In: 8, Out: 8}, {Path: block + "attn2.to_k", In: 16, Out: 8},
			{Path: block + "attn2.to_v", In: 16, Out: 8}, {Path: block + "attn2.to_out.0", In: 8, Out: 8},
		})
	},
}

func open(t testing.TB, cfg pipeline.EngineConfig) *pipeline.Engine {
	t.Helper()
	return openFolder(t, tinySD, backend, cfg)
}

func openFolder(t testing.TB, dir string, b pipeline.Backend, cfg pipeline.EngineConfig) *pipeline.Engine {
	t.Helper()
	m, err := pipeline.Open(dir, b)
	if err != nil {
		t.Fatal(err)
	}
	e := pipeline.NewEngine(m, cfg)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func generate(t testing.TB, e *pipeline.Engine, r pipeline.Request) *pipeline.Result {
	t.Helper()
	result, err := e.Generate(context.Background(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// furthest is the largest difference between two slices of one length.
func furthest(t testing.TB, a, b []float32) float64 {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%d and %d values", len(a), len(b))
	}
	most := 0.0
	for i := range a {
		if d := math.Abs(float64(a[i]) - float64(b[i])); !(d <= most) {
			most = d
		}
	}
	return most
}

// noise is deterministic, in ±size.
func noise(n int, size float64, seed int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(size * math.Sin(float64(seed)+float64(i)*float64(i)*0.7))
	}
	return v
}

// subject is somebody made up, strong enough to be seen.
func subject(e *pipeline.Engine, word string, seed int) pipeline.Subject {
	m := e.Model()
	return pipeline.Subject{Word: word, Class: "cat", Scale: 1, WordEmbeddings: noise(2*m.Text.HiddenSize, 1, seed),
		Offsets: noise(m.Layout.Size(), 0.5, seed+1)}
}

func TestGolden(t *testing.T) {
	file, err := safetensors.Open(filepath.Join(tinySD, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	e := open(t, pipeline.EngineConfig{})
	for _, sampler := range []string{"ddim", "euler", "dpmsolver++"} {
		for _, size := range []struct {
			name string
			h, w int
		}{{"64x64", 64, 64}, {"64x96", 64, 96}} {
			t.Run(sampler+" "+size.name, func(t *testing.T) {
				got := generate(t, e, pipeline.Request{Prompt: prompt, Seed: 3, Steps: 10, GuidanceScale: 7.5,
					Width: size.w, Height: size.h, Scheduler: sampler})
				latents, _, err := file.Float32("latents_" + sampler + "_" + size.name)
				if err != nil {
					t.Fatal(err)
				}
				if d := furthest(t, got.Latents.F32, latents); d > 1e-2 {
					t.Errorf("latents differ by %g", d)
				}
				image, _, err := file.Float32("image_" + sampler + "_" + size.name)
				if err != nil {
					t.Fatal(err)
				}
				if d := furthest(t, planes(got), image); d > 1e-2 {
					t.Errorf("pictures differ by %g", d)
				}
			})
		}
	}
}

// planes is a result's picture as [3, H, W] in 0…1.
func planes(r *pipeline.Result) []float32 {
	size := r.Image.Rect.Size()
	n := size.X * size.Y
	v := make([]float32, 3*n)
	for i := range n {
		for c := range 3 {
			v[c*n+i] = float32(r.Image.Pix[4*i+c]) / 255
		}
	}
	return v
}

func BenchmarkTurnOf8(b *testing.B) {
	for _, with := range []bool{false, true} {
		name := map[bool]string{false: "none", true: "8 concepts"}[with]
		b.Run(name, func(b *testing.B) {
			e := open(b, pipeline.EngineConfig{})
			const steps = 50
			for b.Loop() {
				done := make(chan error)
				for i := range 8 {
					r := pipeline.Request{Prompt: "a cat", Seed: uint64(i), Steps: steps}
					if with {
						r.Prompt, r.Subjects = "a <me>", []pipeline.Subject{subject(e, "me", i)}
					}
					go func() {
						_, err := e.Generate(b.Context(), r, nil)
						done <- err
					}()
				}
				for range 8 {
					if err := <-done; err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*steps), "µs/turn")
		})
	}
}

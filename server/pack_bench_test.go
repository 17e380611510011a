package main

import (
	"image"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/image/draw"

	"likeness/encoder"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/unet"
	"likeness/server/config"
	"likeness/training/portraits"
)

// packFolder is the model folder that is measured: $LIKENESS_MODEL, or the bundled pack.
func packFolder(b *testing.B) string {
	b.Helper()
	dir := os.Getenv(config.EnvPrefix + "_MODEL")
	if dir == "" {
		dir = filepath.Join("..", "models", "demo")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		b.Fatal(err)
	}
	return dir
}

func openPack(b *testing.B) *model {
	b.Helper()
	m, err := openModel(config.Model{Model: packFolder(b)}, 64)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	if m.encoder == nil {
		b.Fatalf("%s has no encoder", packFolder(b))
	}
	return m
}

// photoSource gives photos of 512×512, each of another person of the test set, in which intake finds a face.
func photoSource(b *testing.B, m *model) func() image.Image {
	renderer, next := portraits.NewRenderer(), 0
	return func() image.Image {
		b.Helper()
		for range 100 {
			small := renderer.Draw(portraits.Test.Identity(next), portraits.Context{Scene: portraits.Scene(next % int(portraits.Beach))})
			next++
			photo := image.NewRGBA(image.Rect(0, 0, 512, 512))
			draw.CatmullRom.Scale(photo, photo.Rect, small, small.Rect, draw.Src, nil)
			if _, err := m.Align(b.Context(), photo, 1); err == nil {
				return photo
			}
		}
		b.Fatal("no portrait of a hundred is read")
		return nil
	}
}

// denoiser is the UNet of a pack as the engine runs it.
type denoiser struct {
	*ort.Session
	base   *pipeline.Model
	layout *op.Layout // nil: without offsets
}

func openDenoiser(b *testing.B, m *model, layout *op.Layout) denoiser {
	b.Helper()
	weights, err := checkpoint.OpenComponent(filepath.Join(packFolder(b), checkpoint.UNet))
	if err != nil {
		b.Fatal(err)
	}
	defer weights.Close()
	session, err := openNetwork(checkpoint.UNet, unet.New(m.base.UNet, layout), weights, ort.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { session.Close() })
	return denoiser{session, m.base, layout}
}

// turn is the time of a run over pictures under guidance, two rows each, the second with its concept's offsets.
func (d denoiser) turn(b *testing.B, pictures int, concepts [][]float32) time.Duration {
	b.Helper()
	rows, u, text := 2*pictures, d.base.UNet, d.base.Text
	zeros := func(dims ...int) op.Array { return op.Floats(make([]float32, op.Size(dims)), dims...) }
	in := map[string]op.Array{
		"sample": zeros(rows, u.InChannels, u.SampleSize[0], u.SampleSize[1]), "timestep": zeros(rows),
		"encoder_hidden_states": zeros(rows, text.MaxPositionEmbeddings, text.HiddenSize),
	}
	start := time.Now()
	if d.layout != nil {
		size := d.layout.Size()
		in["offsets"] = zeros(rows, 1, size)
		for i, offsets := range concepts {
			copy(in["offsets"].F32[(2*i+1)*size:], offsets)
		}
	}
	if _, err := d.Run(b.Context(), in); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// median of times, in milliseconds.
func median(times []time.Duration) float64 {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2].Seconds() * 1e3
}

// BenchmarkConcept is a decoded photo to a concept, beside a step of the UNet for one picture: intake's alignment with face detection, and
// the encoder's run.
func BenchmarkConcept(b *testing.B) {
	m := openPack(b)
	next, steps := photoSource(b, m), openDenoiser(b, m, m.base.Layout)
	var whole, align, step []time.Duration
	for b.Loop() {
		photo := next()
		start := time.Now()
		aligned, err := m.Align(b.Context(), photo, 1)
		if err != nil {
			b.Fatal(err)
		}
		align = append(align, time.Since(start))
		if _, err := m.Encode(b.Context(), []*encoder.Photo{aligned}, "me", "face"); err != nil {
			b.Fatal(err)
		}
		whole = append(whole, time.Since(start))
		step = append(step, steps.turn(b, 1, nil))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(whole), "ms")
	b.ReportMetric(median(align), "align-ms")
	b.ReportMetric(median(step), "step-ms")
}

// BenchmarkTurn is a turn of the engine over eight pictures with a concept each, beside one of the plain base model. The two take turns.
func BenchmarkTurn(b *testing.B) {
	const pictures = 8
	m := openPack(b)
	next, plain, personal := photoSource(b, m), openDenoiser(b, m, nil), openDenoiser(b, m, m.base.Layout)
	var concepts [][]float32
	for range pictures {
		photo, err := m.Align(b.Context(), next(), 1)
		if err != nil {
			b.Fatal(err)
		}
		c, err := m.Encode(b.Context(), []*encoder.Photo{photo}, "me", "face")
		if err != nil {
			b.Fatal(err)
		}
		subject, err := m.Subject(c, 1)
		if err != nil {
			b.Fatal(err)
		}
		concepts = append(concepts, subject.Offsets)
	}
	plain.turn(b, pictures, nil)
	personal.turn(b, pictures, concepts)
	var none, all []time.Duration
	for b.Loop() {
		none = append(none, plain.turn(b, pictures, nil))
		all = append(all, personal.turn(b, pictures, concepts))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(all), "ms")
	b.ReportMetric(median(none), "plain-ms")
}

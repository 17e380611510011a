package ort_test

import (
	"fmt"
	"testing"
	"time"

	"likeness/models/backend/ort"
	"likeness/models/op"
)

// BenchmarkConv is a convolution by the operator of folder kernels beside ONNX Runtime's, in turn. The sizes are those of a UNet of Stable
// Diffusion 1.5 for pictures of 256² and 512² and of its VAE.
func BenchmarkConv(b *testing.B) {
	for _, c := range []struct{ batch, in, out, size int }{
		{1, 1280, 1280, 4}, {1, 1280, 1280, 8}, {2, 1280, 1280, 8}, {1, 1280, 1280, 16}, {1, 640, 640, 16}, {2, 640, 640, 16}, {1, 1920, 640, 16},
		{1, 320, 320, 32}, {1, 640, 640, 32}, {1, 320, 320, 64}, {1, 128, 128, 256},
	} {
		b.Run(fmt.Sprintf("%dx%dto%d/%d", c.batch, c.in, c.out, c.size), func(b *testing.B) {
			weights := map[string]op.Array{"conv.weight": filled(c.out, c.in, 3, 3), "conv.bias": filled(c.out)}
			inputs := map[string]op.Array{"x": filled(c.batch, c.in, c.size, c.size)}
			sessions := [2]*ort.Session{convSession(b, weights, false), convSession(b, weights, true)}
			var took [2]time.Duration
			for b.Loop() {
				for i, s := range sessions {
					start := time.Now()
					if _, err := s.Run(b.Context(), inputs); err != nil {
						b.Fatal(err)
					}
					took[i] += time.Since(start)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(took[1].Seconds()*1e3/float64(b.N), "ms")
			b.ReportMetric(took[0].Seconds()*1e3/float64(b.N), "onnxruntime-ms")
			b.ReportMetric(took[1].Seconds()/took[0].Seconds(), "ratio")
		})
	}
}

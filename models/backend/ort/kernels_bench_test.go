package ort_test

import (
	"fmt"
	"slices"
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
			inTurn(b, convSession(b, weights, false), convSession(b, weights, true), inputs)
		})
	}
}

// BenchmarkLinear does the same for a linear layer, beside ONNX Runtime's Gemm.
func BenchmarkLinear(b *testing.B) {
	for _, c := range []struct{ rows, in, out int }{
		{2, 1280, 1280}, {16, 1280, 1280}, {64, 1280, 1280}, {64, 1280, 10240}, {64, 5120, 1280}, {77, 768, 320}, {256, 640, 640}, {256, 640, 5120}, {256, 2560, 640},
		{1024, 320, 320}, {1024, 320, 2560}, {1024, 1280, 320}, {4096, 320, 320}, {4096, 512, 512},
	} {
		b.Run(fmt.Sprintf("%d/%dto%d", c.rows, c.in, c.out), func(b *testing.B) {
			weights := map[string]op.Array{"linear.weight": filled(c.out, c.in), "linear.bias": filled(c.out)}
			inputs := map[string]op.Array{"x": filled(1, c.rows, c.in)}
			inTurn(b, linearSession(b, weights, false), linearSession(b, weights, true), inputs)
		})
	}
}

// BenchmarkAttention does the same for attention, self and cross.
func BenchmarkAttention(b *testing.B) {
	for _, c := range []attentionSizes{
		{1, 8, 1024, 1024, 40}, {2, 8, 1024, 1024, 40}, {1, 8, 256, 256, 80}, {1, 8, 64, 64, 160}, {1, 8, 1024, 77, 40}, {1, 8, 4096, 4096, 40}, {1, 1, 4096, 4096, 512},
	} {
		b.Run(fmt.Sprintf("%dx%dof%d/%dto%d", c.batch, c.heads, c.size, c.queries, c.keys), func(b *testing.B) {
			inTurn(b, session(b, graph(b, nil, false, c.attention)), session(b, graph(b, nil, true, c.attention)), c.inputs())
		})
	}
}

// inTurn reports what a run of our operator takes, beside one of ONNX Runtime's: medians.
func inTurn(b *testing.B, theirs, ours *ort.Session, inputs map[string]op.Array) {
	sessions := [2]*ort.Session{theirs, ours}
	var took [2][]float64 // ms
	for b.Loop() {
		for i, s := range sessions {
			start := time.Now()
			if _, err := s.Run(b.Context(), inputs); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(start).Seconds()*1e3)
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	middle := len(took[0]) / 2
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(took[1][middle], "ms")
	b.ReportMetric(took[0][middle], "onnxruntime-ms")
	b.ReportMetric(took[1][middle]/took[0][middle], "ratio")
}

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
			beside(b, convSession(b, weights, false), convSession(b, weights, true), inputs)
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
			beside(b, linearSession(b, weights, false), linearSession(b, weights, true), inputs)
		})
	}
}

// BenchmarkLoRALinear is a linear layer with a change of rank 4 of each of two samples beside the layer alone.
func BenchmarkLoRALinear(b *testing.B) {
	for _, c := range []struct{ rows, in, out int }{{77, 768, 320}, {64, 1280, 1280}, {256, 640, 640}, {1024, 320, 320}, {4096, 320, 320}} {
		b.Run(fmt.Sprintf("%d/%dto%d", c.rows, c.in, c.out), func(b *testing.B) {
			const rank = 4
			weights := map[string]op.Array{"linear.weight": filled(c.out, c.in), "linear.bias": filled(c.out)}
			x := filled(2, c.rows, c.in)
			plain, changed := linearSession(b, weights, true), session(b, graph(b, weights, true, loraLinear(weights)))
			inTurn(b, contender{"layer-", plain, map[string]op.Array{"x": x}},
				contender{"", changed, map[string]op.Array{"x": x, "down": filled(2, c.in, rank), "up": filled(2, rank, c.out)}})
		})
	}
}

// BenchmarkAttention does the same for attention, self and cross.
func BenchmarkAttention(b *testing.B) {
	for _, c := range []attentionSizes{
		{1, 8, 1024, 1024, 40}, {2, 8, 1024, 1024, 40}, {1, 8, 256, 256, 80}, {1, 8, 64, 64, 160}, {1, 8, 1024, 77, 40}, {1, 8, 4096, 4096, 40}, {1, 1, 4096, 4096, 512},
	} {
		b.Run(fmt.Sprintf("%dx%dof%d/%dto%d", c.batch, c.heads, c.size, c.queries, c.keys), func(b *testing.B) {
			beside(b, session(b, graph(b, nil, false, c.attention)), session(b, graph(b, nil, true, c.attention)), c.inputs())
		})
	}
}

// contender is a session and what it reads; the name begins the unit of its time.
type contender struct {
	name    string
	session *ort.Session
	inputs  map[string]op.Array
}

// beside reports what a run of our operator takes, beside one of ONNX Runtime's.
func beside(b *testing.B, theirs, ours *ort.Session, inputs map[string]op.Array) {
	inTurn(b, contender{"onnxruntime-", theirs, inputs}, contender{"", ours, inputs})
}

// inTurn reports what runs of both take, and what ours does in parts of the other's: medians.
func inTurn(b *testing.B, other, ours contender) {
	contenders := [2]contender{other, ours}
	var took [2][]float64 // ms
	var medians [2]float64
	for b.Loop() {
		for i, c := range contenders {
			start := time.Now()
			if _, err := c.session.Run(b.Context(), c.inputs); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(start).Seconds()*1e3)
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, c := range contenders {
		slices.Sort(took[i])
		medians[i] = took[i][len(took[i])/2]
		b.ReportMetric(medians[i], c.name+"ms")
	}
	b.ReportMetric(medians[1]/medians[0], "ratio")
}

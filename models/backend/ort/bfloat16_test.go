package ort_test

import (
	"math"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/unet"
)

// A UNet that the CPU computes in bfloat16 is the UNet, to bfloat16, whatever the batch.
func TestUNetInBFloat16(t *testing.T) {
	cfg, layout, weights := denoiser(t, 32, 32, 64)
	model := unet.New(cfg, layout)
	graph, err := onnx.Emit(model, onnx.FromArrays(weights), onnx.Options{Name: "unet"})
	if err != nil {
		t.Fatal(err)
	}
	if ort.CanBFloat16() != nil {
		return // TestBFloat16ThatCannotBe reads what it says
	}
	exact := open(t, model, onnx.FromArrays(weights))
	s, err := ort.Open(graph, ort.Options{Threads: 1, BFloat16: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, batch := range []int{2, 1, 3} {
		in := step(batch, layout.Size())
		want, got := run(t, exact, in)["noise_pred"].F32, run(t, s, in)["noise_pred"].F32
		var squares, off float64
		for i, w := range want {
			squares += float64(w) * float64(w)
			off += math.Pow(float64(got[i]-w), 2)
		}
		if off == 0 || !(math.Sqrt(off/squares) < 5e-2) {
			t.Errorf("batch %d: bfloat16 is %g off", batch, math.Sqrt(off/squares))
		}
	}
}

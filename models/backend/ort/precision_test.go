package ort_test

import (
	"math"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/op"
	"likeness/models/unet"
)

// A UNet in half precision is the UNet, to half precision; what no weight has met stays float32, so that late timesteps are told apart.
func TestHalfPrecision(t *testing.T) {
	cfg, layout, weights := denoiser(t, 32, 32, 64)
	model := unet.New(cfg, layout)
	in := step(2, layout.Size())
	in["timestep"].F32[0], in["timestep"].F32[1] = 998, 997
	want := run(t, open(t, model, onnx.FromArrays(weights)), in)["noise_pred"].F32
	graph, err := onnx.Emit(model, onnx.FromArrays(weights), onnx.Options{Name: "half", Compute: onnx.Float16})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(graph.Inputs, graph.Outputs...) {
		if p.DType != op.Float32 {
			t.Errorf("%s is %v", p.Name, p.DType)
		}
	}
	s, err := ort.Open(graph, ort.Options{Threads: 1}) // the CPU computes it in float32 between casts
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got := run(t, s, in)["noise_pred"].F32
	var squares, off float64
	for i, w := range want {
		squares += float64(w) * float64(w)
		off += math.Pow(float64(got[i]-w), 2)
	}
	if off == 0 || !(math.Sqrt(off/squares) < 5e-3) {
		t.Errorf("half precision is %g off", math.Sqrt(off/squares))
	}
}

// Precisions have PyTorch's names.
func TestPrecisionNames(t *testing.T) {
	for p, name := range map[onnx.Precision]string{onnx.Float32: "float32", onnx.Float16: "float16", onnx.BFloat16: "bfloat16"} {
		if p.String() != name {
			t.Errorf("%d is called %s", p, p)
		}
	}
}

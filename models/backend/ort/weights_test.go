package ort_test

import (
	"os"
	"path/filepath"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/op"
	"likeness/models/safetensors"
)

// TestWeightsInFiles reads weights of every float type out of two files, one of them behind a symbolic link out of its folder,
// as download caches keep them, in folders that cannot be written.
func TestWeightsInFiles(t *testing.T) {
	root := t.TempDir()
	first, blob, link := filepath.Join(root, "model", "first.safetensors"), filepath.Join(root, "blobs", "1f"), filepath.Join(root, "model", "second.safetensors")
	values := []float32{1, -2, 0.5, 4}
	for path, tensors := range map[string]map[string]safetensors.Tensor{
		first: {"a": safetensors.F32(values, 2, 2), "b": safetensors.F16(values, 2, 2)},
		blob:  {"c": safetensors.BF16(values, 2, 2), "d": {DType: safetensors.TypeF64, Shape: []int{1}, Data: []byte{0, 0, 0, 0, 0, 0, 8, 64}}},
	} {
		if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(path, tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(blob, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{first, blob, filepath.Dir(first), filepath.Dir(blob)} {
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(path, 0o755) })
	}
	one, two := openFile(t, first), openFile(t, link)
	weights := func(name string) (onnx.Weight, bool) {
		if w, ok := onnx.FromFile(one)(name); ok {
			return w, ok
		}
		return onnx.FromFile(two)(name)
	}
	s := open(t, func(s op.Scope) map[string]op.Tensor {
		x := s.Input("x", op.Float32, -1, 2)
		sum := s.Weight("a", 2, 2).Add(s.Weight("b", 2, 2)).Add(s.Weight("c", 2, 2)).Mul(s.Weight("d", 1))
		return map[string]op.Tensor{"y": x.MatMul(sum)}
	}, weights)
	out := run(t, s, map[string]op.Array{"x": op.Floats([]float32{1, 0, 0, 1}, 2, 2)})
	within(t, "y", out["y"], op.Floats([]float32{9, -18, 4.5, 36}, 2, 2), 0) // d is 3
}

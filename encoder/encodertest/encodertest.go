// Package encodertest makes encoders of random weights for tests.
package encodertest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"likeness/encoder"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/unet"
)

// Folder is a copy of a model folder with an encoder for its UNet.
func Folder(t testing.TB, folder string, cfg encoder.Config) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), filepath.Base(folder))
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	component, err := checkpoint.OpenComponent(filepath.Join(dir, checkpoint.UNet))
	if err != nil {
		t.Fatal(err)
	}
	defer component.Close()
	base, err := unet.ParseConfig(component.Config())
	if err != nil {
		t.Fatal(err)
	}
	Write(t, filepath.Join(dir, "encoder"), cfg, base)
	return dir
}

// Write writes the folder dir of an encoder for a UNet.
func Write(t testing.TB, dir string, cfg encoder.Config, base unet.Config) {
	t.Helper()
	layout, err := trace.Layout(unet.New(base, nil), cfg.Rank, cfg.IsTarget)
	if err != nil {
		t.Fatal(err)
	}
	weights, err := trace.Weights(func(s op.Scope) map[string]op.Tensor {
		out := encoder.Network(cfg, layout)(s)
		out["offsets"] = encoder.Offsets(s, cfg, layout, out["coefficients"])
		return out
	})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	tensors := map[string]safetensors.Tensor{}
	for _, w := range weights {
		values := make([]float32, op.Size(w.Dims))
		for i := range values {
			values[i] = float32(random.NormFloat64() / 8)
		}
		tensors[w.Name] = safetensors.F32(values, w.Dims...)
	}
	if err := checkpoint.WriteComponent(dir, cfg, tensors, nil); err != nil {
		t.Fatal(err)
	}
}

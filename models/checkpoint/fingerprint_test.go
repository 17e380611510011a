package checkpoint

import (
	"path/filepath"
	"testing"

	"likeness/models/safetensors"
)

func TestFingerprint(t *testing.T) {
	print := func(dir string) string {
		t.Helper()
		f, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := f.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, two := model(t), model(t)
	first := print(one)
	if len(first) != 64 || first != print(two) {
		t.Fatal("equal folders have different fingerprints")
	}
	write(t, filepath.Join(two, Scheduler, "scheduler_config.json"), `{"steps_offset": 0}`)
	write(t, filepath.Join(two, UNet, configFile), `{"_diffusers_version": "0.1", "width": 0}`)
	if first != print(two) {
		t.Fatal("the scheduler or a version changed it")
	}
	write(t, filepath.Join(two, UNet, configFile), `{"width": 1}`)
	if first == print(two) {
		t.Fatal("a configuration did not change it")
	}
	two = model(t)
	write(t, filepath.Join(two, Tokenizer, "merges.txt"), "a b")
	if first == print(two) {
		t.Fatal("the tokenizer did not change it")
	}
	two = sdxl(t)
	second := print(two)
	if second == first {
		t.Fatal("a second text encoder did not change it")
	}
	write(t, filepath.Join(two, Tokenizer2, "merges.txt"), "a b")
	if second == print(two) {
		t.Fatal("the second tokenizer did not change it")
	}
	two = model(t)
	weights(t, filepath.Join(two, UNet, "diffusion_pytorch_model.safetensors"), map[string]safetensors.Tensor{"w": f32(0, 1.0001)})
	if first == print(two) {
		t.Fatal("a weight did not change it")
	}
}

// Samples reach start, middle and end of a large weight.
func TestFingerprintSamples(t *testing.T) {
	seen := map[string]bool{}
	for _, at := range []int{-1, 0, 5000, 9999} {
		values := make([]float32, 10000)
		if at >= 0 {
			values[at] = 1
		}
		dir := filepath.Join(t.TempDir(), "unet")
		if err := WriteComponent(dir, struct{}{}, map[string]safetensors.Tensor{"w": f32(values...)}, nil); err != nil {
			t.Fatal(err)
		}
		s, err := component(t, dir).Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		seen[s] = true
	}
	if len(seen) != 4 {
		t.Fatalf("%d fingerprints of 4 different weights", len(seen))
	}
}

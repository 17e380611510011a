package checkpoint

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/safetensors"
)

func TestFingerprint(t *testing.T) {
	one, two := model(t), model(t)
	first := fingerprintOf(t, one)
	if len(first) != 64 || first != fingerprintOf(t, two) {
		t.Fatal("equal folders have different fingerprints")
	}
	write(t, filepath.Join(two, Scheduler, "scheduler_config.json"), `{"steps_offset": 0}`)
	write(t, filepath.Join(two, UNet, configFile), `{"_diffusers_version": "0.1", "width": 0}`)
	if first != fingerprintOf(t, two) {
		t.Fatal("the scheduler or a version changed it")
	}
	two = model(t)
	write(t, filepath.Join(two, Tokenizer, "merges.txt"), "a b")
	if first == fingerprintOf(t, two) {
		t.Fatal("the tokenizer did not change it")
	}
	two = sdxl(t)
	second := fingerprintOf(t, two)
	if second == first {
		t.Fatal("a second text encoder did not change it")
	}
	write(t, filepath.Join(two, Tokenizer2, "merges.txt"), "a b")
	if second == fingerprintOf(t, two) {
		t.Fatal("the second tokenizer did not change it")
	}
	two = model(t)
	weights(t, filepath.Join(two, UNet, "diffusion_pytorch_model.safetensors"), map[string]safetensors.Tensor{"w": f32(0, 1.01)})
	if first == fingerprintOf(t, two) {
		t.Fatal("a weight did not change it")
	}
	weights(t, filepath.Join(two, UNet, "diffusion_pytorch_model.safetensors"), map[string]safetensors.Tensor{"v": f32(0, 1)})
	if first == fingerprintOf(t, two) {
		t.Fatal("a name did not change it")
	}
}

// Weights that are no numbers are all named.
func TestFingerprintOfNoNumbers(t *testing.T) {
	dir, nan := model(t), float32(math.NaN())
	weights(t, filepath.Join(dir, UNet, "diffusion_pytorch_model.safetensors"), map[string]safetensors.Tensor{"good": f32(1), "v": f32(0, nan), "w": f32(nan)})
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.Fingerprint()
	for _, want := range []string{"unet", "2 weights", "not finite", "v, w"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// A component's own fingerprint has its configuration and its precision in it.
func TestComponentFingerprint(t *testing.T) {
	seen := map[string]bool{}
	for _, config := range []map[string]int{{"width": 1}, {"width": 2}} {
		for _, w := range []safetensors.Tensor{f32(1, 2), safetensors.F16([]float32{1, 2}, 2)} {
			dir := filepath.Join(t.TempDir(), "unet")
			if err := WriteComponent(dir, config, map[string]safetensors.Tensor{"w": w}, nil); err != nil {
				t.Fatal(err)
			}
			s, err := component(t, dir).Fingerprint()
			if err != nil {
				t.Fatal(err)
			}
			seen[s] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d fingerprints of 4 different components", len(seen))
	}
}

// A concept for a single file fits the diffusers folder of the same weights, in float32, float16 or shards, and the other way round; and
// no file of other weights.
func TestFingerprintOfLayouts(t *testing.T) {
	for _, name := range []string{"sd1", "sd2", "sdxl"} {
		t.Run(name, func(t *testing.T) {
			g := readGolden(t, name)
			f, err := Open(single(t, g, nil, false))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want, err := f.Fingerprint()
			if err != nil {
				t.Fatal(err)
			}
			for layout, change := range map[string]func(values []float32, shape []int) safetensors.Tensor{
				"float32": func(v []float32, shape []int) safetensors.Tensor { return safetensors.F32(v, shape...) },
				"float16": func(v []float32, shape []int) safetensors.Tensor { return safetensors.F16(v, shape...) },
				"finer": func(v []float32, shape []int) safetensors.Tensor { // what half precision cannot tell
					for i := range v {
						v[i] *= 1 + 1e-5
					}
					return safetensors.F32(v, shape...)
				},
				"other": func(v []float32, shape []int) safetensors.Tensor {
					v[len(v)-1] += 0.25
					return safetensors.F16(v, shape...)
				},
			} {
				got := fingerprintOf(t, asFolder(t, f, g, layout == "float16", change))
				if (got == want) != (layout != "other") {
					t.Errorf("%s: fingerprint %.12s, the single file's %.12s", layout, got, want)
				}
			}
		})
	}
}

func fingerprintOf(t *testing.T, dir string) string {
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

// asFolder writes what diffusers makes of a single file as a folder, its networks in one file each or in two shards.
func asFolder(t *testing.T, f *Folder, g ldmGolden, sharded bool, change func(values []float32, shape []int) safetensors.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	components := map[string][2]string{}
	for _, part := range []string{UNet, VAE, TextEncoder, TextEncoder2} {
		if !f.Has(part) {
			continue
		}
		components[part] = [2]string{"x", "X"}
		all := [2]map[string]safetensors.Tensor{{}, {}}
		where := map[string]string{}
		i := 0
		for name := range g.Components[part] {
			values, shape, err := f.components[part].Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			half := 0
			if sharded {
				half = i % 2
			}
			i++
			all[half][name] = change(values, shape)
			where[name] = fmt.Sprintf("%d.safetensors", half)
		}
		if part != UNet && part != VAE {
			all[0]["text_model.embeddings.position_ids"] = safetensors.I64([]int64{0, 1}, 1, 2)
			where["text_model.embeddings.position_ids"] = "0.safetensors"
		}
		folder := filepath.Join(dir, part)
		if err := WriteComponent(folder, g.Configs[part], all[0], nil); err != nil {
			t.Fatal(err)
		}
		if !sharded {
			continue
		}
		first := filepath.Join(folder, stem(folder)+".safetensors")
		if err := os.Rename(first, filepath.Join(folder, "0.safetensors")); err != nil {
			t.Fatal(err)
		}
		weights(t, filepath.Join(folder, "1.safetensors"), all[1])
		if err := WriteJSON(first+".index.json", map[string]any{"weight_map": where}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{Tokenizer, Tokenizer2, Scheduler} {
		components[name] = [2]string{"x", "X"}
		write(t, filepath.Join(dir, name, "vocab.json"), "{}")
		write(t, filepath.Join(dir, name, "merges.txt"), "")
		write(t, filepath.Join(dir, name, "scheduler_config.json"), "{}")
	}
	if !f.Has(Tokenizer2) {
		delete(components, Tokenizer2)
	}
	if err := WriteIndex(dir, f.Class(), components); err != nil {
		t.Fatal(err)
	}
	return dir
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

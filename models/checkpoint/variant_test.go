package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/safetensors"
)

func opened(t *testing.T, path string) *Folder {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func fingerprint(t *testing.T, f *Folder) string {
	t.Helper()
	sum, err := f.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// A variant has the new weights in the types of the old, everything else as it was, and replaces an earlier variant.
func TestWriteVariant(t *testing.T) {
	from := model(t)
	half := map[string]safetensors.Tensor{"w": safetensors.F16([]float32{1, 2}, 2), "kept": safetensors.F16([]float32{3}, 1)}
	if err := WriteComponent(filepath.Join(from, UNet), map[string]int{"width": 4}, half, nil); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(from, "generation_config.json"), `{"num_inference_steps": 3}`)
	write(t, filepath.Join(from, "safety_checker", "old.bin"), "beyond us")
	vocabulary := filepath.Join(t.TempDir(), "vocab.json")
	write(t, vocabulary, `{"a": 0}`)
	linked := filepath.Join(from, Tokenizer, "vocab.json") // as in a download cache
	if err := errors.Join(os.Remove(linked), os.Symlink(vocabulary, linked)); err != nil {
		t.Fatal(err)
	}
	f, dir := opened(t, from), filepath.Join(t.TempDir(), "made")
	for _, value := range []float32{7, 8.5} {
		err := f.WriteVariant(dir, Variant{Weights: map[string]map[string][]float32{UNet: {"w": {value, 5}}}, Without: []string{"encoder"},
			Beside: func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o644) }})
		if err != nil {
			t.Fatal(err)
		}
		made := opened(t, dir)
		unet, err := made.Component(UNet)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := unet.Info("w")
		if got, _, err := unet.Float32("w"); err != nil || !slices.Equal(got, []float32{value, 5}) || info.DType != safetensors.TypeF16 {
			t.Errorf("w is %v %v, %v", info.DType, got, err)
		}
		if got, _, err := unet.Float32("kept"); err != nil || !slices.Equal(got, []float32{3}) || string(unet.Config()) == "" {
			t.Errorf("kept is %v, %v", got, err)
		}
		if made.Has("encoder") || made.Class() != f.Class() || fingerprint(t, made) == fingerprint(t, f) {
			t.Error("the encoder is there, or class or fingerprint are wrong")
		}
		for file, want := range map[string]string{"generation_config.json": `{"num_inference_steps": 3}`, "more": "", "tokenizer/vocab.json": `{"a": 0}`,
			"safety_checker/old.bin": "beyond us", "scheduler/scheduler_config.json": `{"steps_offset": 1}`} {
			if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
				t.Errorf("%s is %q, %v", file, got, err)
			}
		}
		if stat, err := os.Lstat(filepath.Join(dir, "tokenizer", "vocab.json")); err != nil || !stat.Mode().IsRegular() {
			t.Errorf("the vocabulary is a link: %v", err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// What fails leaves an earlier folder as it was, and nothing else.
func TestWriteVariantFails(t *testing.T) {
	f, dir := opened(t, model(t)), filepath.Join(t.TempDir(), "made")
	if err := f.WriteVariant(dir, Variant{}); err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string]Variant{
		"no room":          {Beside: func(string) error { return errors.New("no room") }},
		`no weight "nose"`: {Weights: map[string]map[string][]float32{UNet: {"nose": {1}}}},
		"3 values for F32": {Weights: map[string]map[string][]float32{UNet: {"w": {1, 2, 3}}}},
	} {
		if err := f.WriteVariant(dir, v); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("error %v, want one with %q", err, want)
		}
		if fingerprint(t, opened(t, dir)) != fingerprint(t, f) {
			t.Errorf("%s: the earlier folder has changed", want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestVariantRefuses(t *testing.T) {
	f, other, file := opened(t, model(t)), t.TempDir(), filepath.Join(t.TempDir(), "file")
	write(t, filepath.Join(other, "letter"), "dear")
	write(t, file, "")
	for dir, want := range map[string]string{f.Path(): "the model itself", other: "is no model folder", file: "not a directory", filepath.Join(other, "a", "b"): "no such file"} {
		if err := f.WriteVariant(dir, Variant{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", dir, err, want)
		}
	}
	if data, err := os.ReadFile(filepath.Join(other, "letter")); err != nil || string(data) != "dear" {
		t.Errorf("%q, %v", data, err)
	}
}

// Of a single file, a variant is the folder that it converts to.
func TestVariantOfSingleFile(t *testing.T) {
	f := opened(t, single(t, readGolden(t, "sd1"), nil, false))
	dir := filepath.Join(t.TempDir(), "made")
	if err := f.WriteVariant(dir, Variant{}); err != nil {
		t.Fatal(err)
	}
	made := opened(t, dir)
	if fingerprint(t, made) != fingerprint(t, f) || made.Class() != f.Class() {
		t.Errorf("%s and %s differ", f.Path(), dir)
	}
	for _, name := range []string{UNet, VAE, TextEncoder, Scheduler, Tokenizer} {
		if !made.Has(name) {
			t.Errorf("no %s", name)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, indexFile)); err != nil || !strings.Contains(string(data), "PNDMScheduler") {
		t.Errorf("%s, %v", data, err)
	}
}

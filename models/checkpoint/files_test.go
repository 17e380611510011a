package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"likeness/models/safetensors"
)

// shard writes the weights, one a file, and their index, named as pattern says for the number of the file.
func shard(t *testing.T, dir, index, pattern string, tensors map[string]safetensors.Tensor, names ...string) []string {
	t.Helper()
	var files, entries []string
	for i, name := range names {
		file := fmt.Sprintf(pattern, i+1, len(names))
		weights(t, filepath.Join(dir, file), map[string]safetensors.Tensor{name: tensors[name]})
		files = append(files, file)
		entries = append(entries, fmt.Sprintf("%q: %q", name, file))
	}
	write(t, filepath.Join(dir, index), `{"metadata": {"total_size": 1}, "weight_map": {`+strings.Join(entries, ", ")+"}}")
	return files
}

// TestWeightFiles opens each form that diffusers and transformers write, in each precision.
func TestWeightFiles(t *testing.T) {
	const big = "diffusion_pytorch_model"
	halves := map[string]safetensors.Tensor{"a": safetensors.F16([]float32{0.5}, 1), "b": safetensors.F16([]float32{-2}, 1)}
	brains := map[string]safetensors.Tensor{"a": safetensors.BF16([]float32{0.5}, 1), "b": safetensors.BF16([]float32{-2}, 1)}
	floats := map[string]safetensors.Tensor{"a": f32(0.5), "b": f32(-2)}
	for _, c := range []struct {
		name, index, pattern string
		tensors              map[string]safetensors.Tensor
	}{
		{"unet", "", big + ".safetensors", floats},
		{"unet", "", big + ".fp16.safetensors", halves},
		{"unet", "", big + ".bf16.safetensors", brains},
		{"text_encoder_2", "", "model.safetensors", brains},
		{"text_encoder_2", "", "model.fp16.safetensors", halves},
		{"unet", big + ".safetensors.index.json", big + "-%05d-of-%05d.safetensors", floats},
		{"unet", big + ".safetensors.index.fp16.json", big + ".fp16-%05d-of-%05d.safetensors", halves},
		{"unet", big + ".safetensors.index.fp16.json", big + "-%05d-of-%05d.fp16.safetensors", halves},
		{"unet", big + ".fp16.safetensors.index.json", big + "-%05d-of-%05d.fp16.safetensors", halves},
		{"text_encoder_2", "model.safetensors.index.json", "model-%05d-of-%05d.safetensors", brains},
		{"text_encoder_2", "model.safetensors.index.fp16.json", "model.fp16-%05d-of-%05d.safetensors", halves},
	} {
		dir := filepath.Join(t.TempDir(), c.name)
		write(t, filepath.Join(dir, configFile), "{}")
		if c.index == "" {
			weights(t, filepath.Join(dir, c.pattern), c.tensors)
		} else {
			shard(t, dir, c.index, c.pattern, c.tensors, "a", "b")
		}
		comp := component(t, dir)
		if err := comp.Check([]Weight{{"a", []int{1}}, {"b", []int{1}}}); err != nil {
			t.Errorf("%s: %v", c.pattern, err)
		}
		for name, want := range map[string]float32{"a": 0.5, "b": -2} {
			if v, _, err := comp.Float32(name); err != nil || v[0] != want {
				t.Errorf("%s: %s is %v (%v), want %g", c.pattern, name, v, err, want)
			}
		}
	}
}

// TestWholeVariantIsPreferred: full precision first, but not one whose shards were not downloaded.
func TestWholeVariantIsPreferred(t *testing.T) {
	dir := filepath.Join(t.TempDir(), UNet)
	write(t, filepath.Join(dir, configFile), "{}")
	files := shard(t, dir, "diffusion_pytorch_model.safetensors.index.json", "diffusion_pytorch_model-%05d-of-%05d.safetensors",
		map[string]safetensors.Tensor{"full": f32(1), "other": f32(2)}, "full", "other")
	weights(t, filepath.Join(dir, "diffusion_pytorch_model.fp16.safetensors"), map[string]safetensors.Tensor{"half": safetensors.F16([]float32{0.5}, 1)})
	if got := component(t, dir).Names(); !reflect.DeepEqual(got, []string{"full", "other"}) {
		t.Fatal(got)
	}
	for _, file := range files {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	if got := component(t, dir).Names(); !reflect.DeepEqual(got, []string{"half"}) {
		t.Fatal(got)
	}
	if err := os.Remove(filepath.Join(dir, "diffusion_pytorch_model.fp16.safetensors")); err != nil {
		t.Fatal(err)
	}
	_, err := OpenComponent(dir)
	var missing *MissingError
	if !errors.As(err, &missing) || !slices.Equal(missing.Parts, files) {
		t.Fatalf("the error is %v, want one that names %v", err, files)
	}
}

// TestShardedMismatch: all differences of all shards are in one error, and position_ids in any of them is no difference.
func TestShardedMismatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), TextEncoder2)
	write(t, filepath.Join(dir, configFile), "{}")
	ids := "text_model.embeddings.position_ids"
	shard(t, dir, "model.safetensors.index.json", "model-%05d-of-%05d.safetensors", map[string]safetensors.Tensor{"good": f32(1), "flat": f32(1, 2),
		"extra": f32(1), "long": f32(1, 2, 3), ids: safetensors.I64([]int64{0}, 1, 1)}, "good", "flat", "extra", "long", ids)
	err := component(t, dir).Check([]Weight{{"good", []int{1}}, {"flat", []int{2, 1}}, {"long", []int{2}}, {"lost", []int{4}}, {"gone", []int{5}}})
	want := &MismatchError{Path: dir, Missing: []string{"gone [5]", "lost [4]"}, Unexpected: []string{"extra [1]"},
		Wrong: []string{"flat: is F32 [2], needs floats [2 1]", "long: is F32 [3], needs floats [2]"}}
	var got *MismatchError
	if !errors.As(err, &got) || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// TestShardedBareNames: the prefix that transformers 5 leaves out is given to the weights of every shard.
func TestShardedBareNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), TextEncoder)
	write(t, filepath.Join(dir, configFile), "{}")
	shard(t, dir, "model.safetensors.index.json", "model-%05d-of-%05d.safetensors",
		map[string]safetensors.Tensor{"embeddings.token_embedding.weight": f32(1), "final_layer_norm.bias": f32(2)},
		"embeddings.token_embedding.weight", "final_layer_norm.bias")
	want := []string{"text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.bias"}
	if got := component(t, dir).Names(); !reflect.DeepEqual(got, want) {
		t.Fatal(got)
	}
}

func TestDamagedIndexIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), UNet)
	write(t, filepath.Join(dir, configFile), "{}")
	index := "diffusion_pytorch_model.safetensors.index.json"
	shard(t, dir, index, "s-%d-of-%d.safetensors", map[string]safetensors.Tensor{"a": f32(1), "b": f32(2)}, "a", "b")
	weights(t, filepath.Join(dir, "s-2-of-2.safetensors"), map[string]safetensors.Tensor{"a": f32(2)})
	if _, err := OpenComponent(dir); err == nil || !strings.Contains(err.Error(), `s-2-of-2.safetensors: weight "a" is there twice`) {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "s-2-of-2.safetensors"), "cut")
	if _, err := OpenComponent(dir); err == nil || !strings.Contains(err.Error(), "s-2-of-2.safetensors") {
		t.Fatal(err)
	}
	for _, bad := range []string{"{", `{"weight_map":{}}`, `{"weight_map":{"a":"../x.safetensors"}}`} {
		write(t, filepath.Join(dir, index), bad)
		if _, err := OpenComponent(dir); err == nil || !strings.Contains(err.Error(), index) {
			t.Errorf("%s: the error is %v", bad, err)
		}
	}
}

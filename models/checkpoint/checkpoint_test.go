package checkpoint

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"likeness/models/safetensors"
)

// tinySD is a folder that diffusers itself wrote (scripts/golden/pipeline.py).
const tinySD = "../pipeline/testdata/tiny-sd"

func f32(values ...float32) safetensors.Tensor { return safetensors.F32(values, len(values)) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func weights(t *testing.T, path string, tensors map[string]safetensors.Tensor) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
}

func component(t *testing.T, dir string) *Component {
	t.Helper()
	c, err := OpenComponent(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// sdxl adds a second text encoder and tokenizer to model's folder.
func sdxl(t *testing.T) string {
	t.Helper()
	dir := model(t)
	write(t, filepath.Join(dir, indexFile), `{"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true,
		"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "EulerDiscreteScheduler"],
		"text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
		"tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"], "image_encoder": [null, null]}`)
	tensors := map[string]safetensors.Tensor{"w": f32(7)}
	if err := WriteComponent(filepath.Join(dir, TextEncoder2), struct{}{}, tensors, nil); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, Tokenizer2, "vocab.json"), "{}")
	write(t, filepath.Join(dir, Tokenizer2, "merges.txt"), "")
	return dir
}

// model writes a whole folder of one weight a network.
func model(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	index := map[string][2]string{
		UNet: {"diffusers", "UNet2DConditionModel"}, VAE: {"diffusers", "AutoencoderKL"},
		TextEncoder: {"transformers", "CLIPTextModel"}, Tokenizer: {"transformers", "CLIPTokenizer"},
		Scheduler: {"diffusers", "DDIMScheduler"}, "encoder": {"likeness", "Encoder"},
		"safety_checker": {"stable_diffusion", "StableDiffusionSafetyChecker"},
	}
	if err := WriteIndex(dir, "StableDiffusionPipeline", index); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{UNet, VAE, TextEncoder, "encoder"} {
		tensors := map[string]safetensors.Tensor{"w": f32(float32(i), 1)}
		if err := WriteComponent(filepath.Join(dir, name), map[string]int{"width": i}, tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, Tokenizer, "vocab.json"), "{}")
	write(t, filepath.Join(dir, Tokenizer, "merges.txt"), "")
	write(t, filepath.Join(dir, Scheduler, "scheduler_config.json"), `{"steps_offset": 1}`)
	return dir
}

func TestOpenDiffusersFolder(t *testing.T) {
	f, err := Open(tinySD)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{UNet, VAE, TextEncoder} {
		c, err := f.Component(name)
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		if err := json.Unmarshal(c.Config(), &config); err != nil || len(config) == 0 {
			t.Fatal(name, config, err)
		}
		// Every weight's bytes lie where Info says.
		raw := map[string][]byte{}
		for _, weight := range c.Names() {
			info, _ := c.Info(weight)
			if raw[info.Path] == nil {
				if raw[info.Path], err = os.ReadFile(info.Path); err != nil {
					t.Fatal(err)
				}
			}
			want, _, err := c.Float32(weight)
			if err != nil {
				t.Fatal(err)
			}
			at := raw[info.Path][info.Offset : info.Offset+info.Length]
			got, err := safetensors.Tensor{DType: info.DType, Data: at}.Float32()
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s %s: other bytes at its offset (%v)", name, weight, err)
			}
		}
	}
	if s, err := f.Component(Scheduler); err != nil || !strings.Contains(string(s.Config()), "beta") {
		t.Fatal("scheduler configuration", err)
	}
}

func TestWriteAndOpen(t *testing.T) {
	dir := model(t)
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Class() != "StableDiffusionPipeline" || !f.Has("encoder") || f.Has("safety_checker") {
		t.Fatalf("class %q, encoder %v, safety checker %v", f.Class(), f.Has("encoder"), f.Has("safety_checker"))
	}
	for path, want := range map[string]bool{
		"unet/diffusion_pytorch_model.safetensors": true, "text_encoder/model.safetensors": true,
		"vae/diffusion_pytorch_model.safetensors": true, "encoder/model.safetensors": true,
	} {
		if exists(filepath.Join(dir, path)) != want {
			t.Errorf("%s is missing", path)
		}
	}
	unet, err := f.Component(UNet)
	if err != nil {
		t.Fatal(err)
	}
	if v, shape, err := unet.Float32("w"); err != nil || !reflect.DeepEqual(v, []float32{0, 1}) || !reflect.DeepEqual(shape, []int{2}) {
		t.Fatal(v, shape, err)
	}
	if _, _, err := unet.Float32("nope"); err == nil || !strings.Contains(err.Error(), "nope") {
		t.Fatal(err)
	}
	for name, i := range map[string]int{"nope": 0, "w": 0} {
		if row, err := unet.Row(name, i); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("row %d of %s, which has none: %v, %v", i, name, row, err)
		}
	}
	if _, err := f.Component("safety_checker"); err == nil {
		t.Fatal("a component without folder was given")
	}
}

func TestMissingPartsAreNamedAtOnce(t *testing.T) {
	dir := model(t)
	for _, path := range []string{
		"unet/diffusion_pytorch_model.safetensors", "vae/config.json", "scheduler", "tokenizer/vocab.json",
	} {
		if err := os.RemoveAll(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, UNet, "diffusion_pytorch_model.bin"), "pickle")
	_, err := Open(dir)
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatal(err)
	}
	for _, part := range []string{
		dir, "unet/diffusion_pytorch_model.safetensors", "convert", "vae/config.json", "scheduler/", "tokenizer/vocab.json",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not name %q: %v", part, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := Open(none); errors.As(err, &missing) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), none) {
		t.Error(err)
	}
	if _, err := Open(t.TempDir()); !errors.As(err, &missing) || !strings.Contains(err.Error(), "model_index.json") {
		t.Error(err)
	}
}

func TestIndexIsChecked(t *testing.T) {
	for text, says := range map[string]string{
		"{": "model_index.json", `{"../x": ["a","b"]}`: "folder name", `{}`: `"unet" in model_index.json`,
		`{"_class_name": 3}`: "_class_name",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, indexFile), text)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want an error with %q", text, err, says)
		}
	}
}

func TestCheckReportsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "unet")
	tensors := map[string]safetensors.Tensor{
		"good": f32(1, 2), "extra": f32(1), "flat": f32(1, 2, 3, 4), "ints": safetensors.I64([]int64{1}, 1),
		"text_model.embeddings.position_ids": safetensors.I64([]int64{0, 1}, 1, 2),
	}
	if err := WriteComponent(dir, struct{}{}, tensors, nil); err != nil {
		t.Fatal(err)
	}
	c := component(t, dir)
	err := c.Check([]Weight{
		{"good", []int{2}}, {"lost.b", []int{1}}, {"lost.a", []int{3, 1}}, {"flat", []int{2, 2}}, {"ints", []int{1}},
	})
	var e *MismatchError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	want := &MismatchError{
		Path: dir, Missing: []string{"lost.a [3 1]", "lost.b [1]"}, Unexpected: []string{"extra [1]"},
		Wrong: []string{"flat: is F32 [4], needs floats [2 2]", "ints: is I64 [1], needs floats [1]"},
	}
	if !reflect.DeepEqual(e, want) {
		t.Fatalf("got %+v, want %+v", e, want)
	}
	all := []Weight{{"good", []int{2}}, {"extra", []int{1}}, {"flat", []int{4}}}
	if err := c.Check(all); !errors.As(err, &e) || !reflect.DeepEqual(e.Unexpected, []string{"ints [1]"}) {
		t.Fatal(err)
	}
	delete(tensors, "ints")
	if err := WriteComponent(dir, struct{}{}, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := component(t, dir).Check(all); err != nil {
		t.Fatalf("a complete component, position_ids aside, is refused: %v", err)
	}
}

func TestOldNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vae")
	old := map[string]safetensors.Tensor{}
	manifest := []Weight{}
	for before, after := range attentionNames {
		old["decoder.mid_block.attentions.0."+before+".weight"] = f32(float32(len(after)))
		manifest = append(manifest, Weight{"decoder.mid_block.attentions.0." + after + ".weight", []int{1}})
	}
	if err := WriteComponent(dir, struct{}{}, old, nil); err != nil {
		t.Fatal(err)
	}
	c := component(t, dir)
	if err := c.Check(manifest); err != nil {
		t.Fatal(err)
	}
	if v, _, err := c.Float32("decoder.mid_block.attentions.0.to_out.0.weight"); err != nil || v[0] != 8 {
		t.Fatal(v, err)
	}

	dir = filepath.Join(t.TempDir(), "text_encoder")
	bare := map[string]safetensors.Tensor{"embeddings.token_embedding.weight": f32(1), "final_layer_norm.bias": f32(2)}
	if err := WriteComponent(dir, struct{}{}, bare, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.bias"}
	if got := component(t, dir).Names(); !reflect.DeepEqual(got, want) {
		t.Fatal(got)
	}
}

// TestSecondTextEncoder: what model_index.json lists of SDXL's second encoder must be there.
func TestSecondTextEncoder(t *testing.T) {
	dir := sdxl(t)
	if !exists(filepath.Join(dir, TextEncoder2, "model.safetensors")) {
		t.Fatal("the second text encoder's weights are not named as transformers names them")
	}
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Has(TextEncoder2) || !f.Has(Tokenizer2) || f.Class() != "StableDiffusionXLPipeline" {
		t.Fatalf("text_encoder_2 %v, tokenizer_2 %v, class %s", f.Has(TextEncoder2), f.Has(Tokenizer2), f.Class())
	}
	for _, path := range []string{"text_encoder_2/model.safetensors", "tokenizer_2/vocab.json"} {
		if err := os.Remove(filepath.Join(dir, path)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Open(dir)
	var missing *MissingError
	if want := []string{"tokenizer_2/vocab.json", "text_encoder_2/model.safetensors"}; !errors.As(err, &missing) || !reflect.DeepEqual(missing.Parts, want) {
		t.Fatalf("the error is %v, want the parts %v", err, want)
	}
}

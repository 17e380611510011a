package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/safetensors"
)

// tinySD is the folder of tinyPack without an encoder, exchanged holds published files for it.
var (
	tinySD    = filepath.Join("..", "models", "pipeline", "testdata", "tiny-sd")
	exchanged = filepath.Join("..", "encoder", "exchange", "testdata")
)

// plainLatents draws without guidance and returns the latents.
func plainLatents(t *testing.T, folder string, args ...string) []float32 {
	t.Helper()
	out := filepath.Join(t.TempDir(), "latents.safetensors")
	args = append([]string{"generate", "--model", folder, "--steps", "5", "--guidance-scale", "1", "--seed", "3", "--scheduler", "ddim",
		"-o", filepath.Join(t.TempDir(), "out.png"), "--latents-out", out}, args...)
	if err := run(t, args...); err != nil {
		t.Fatal(args, err)
	}
	return latents(t, out, 1)
}

// A concept's pictures are those of the files that it is exported to.
func TestExport(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	me := filepath.Join(dir, "me.safetensors")
	if err := run(t, "encode", sample(t, "ada.png"), "--model", pack, "-o", me); err != nil {
		t.Fatal(err)
	}
	prompt := []string{"--prompt", "a photo of <me> hat"}
	want := plainLatents(t, pack, append(prompt, "--concept", me)...)
	if d := furthest(want, plainLatents(t, pack, "--prompt", "a photo of face hat")); d < 1e-2 {
		t.Errorf("the concept changes the latents by %g", d)
	}
	for _, format := range []string{"kohya", "diffusers", "merged"} {
		out := filepath.Join(dir, format+".safetensors")
		if err := run(t, "export", me, "--format", format, "-o", out, "--model", pack); err != nil {
			t.Fatal(err)
		}
		folder, args := pack, append(prompt, "--concept", filepath.Join(dir, format+"-embedding.safetensors"))
		if format != "merged" {
			args = append(args, "--concept", out)
		} else {
			folder = filepath.Join(t.TempDir(), "merged")
			if err := os.CopyFS(folder, os.DirFS(tinySD)); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(out, filepath.Join(folder, "unet", "diffusion_pytorch_model.safetensors")); err != nil {
				t.Fatal(err)
			}
		}
		if d := furthest(want, plainLatents(t, folder, args...)); d > 1e-3 {
			t.Errorf("%s: the latents differ by %g from the concept's", format, d)
		}
	}
	word := filepath.Join(dir, "word.safetensors")
	if err := run(t, "export", me, "--format", "embedding", "-o", word, "--model", pack); err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Open(word)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if vectors, shape, err := file.Float32("<me>"); err != nil || len(vectors) != 32 || shape[0] != 2 {
		t.Error(shape, err)
	}
}

// Published files draw what they draw in diffusers, on a model with an encoder and on one without, beside a concept of our own, and the
// command says what it found.
func TestGenerateWithPublishedFiles(t *testing.T) {
	pack := tinyPack(t)
	lora, style := filepath.Join(exchanged, "kohya_a.safetensors"), filepath.Join(exchanged, "processor_a.safetensors")
	expected, err := safetensors.Open(filepath.Join(exchanged, "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer expected.Close()
	want, _, err := expected.Float32("latents_kohya_a")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{tinySD, pack} {
		if d := furthest(want, plainLatents(t, folder, "--prompt", "a photo of a cat", "--concept", lora)); d > 1e-3 {
			t.Errorf("%s: the latents differ by %g from diffusers'", folder, d)
		}
	}
	guided, _, err := expected.Float32("latents_guided_kohya_a")
	if err != nil {
		t.Fatal(err)
	}
	if d := furthest(guided, plainLatents(t, pack, "--prompt", "a photo of a cat", "--concept", lora, "--guidance-scale", "7.5")); d > 1e-2 {
		t.Errorf("under guidance the latents differ by %g from diffusers'", d)
	}
	half := plainLatents(t, pack, "--prompt", "a photo of a cat", "--concept", lora+":0.5")
	if d := furthest(half, want); d < 1e-2 {
		t.Errorf("half the LoRA is %g from the whole", d)
	}
	if d := furthest(half, plainLatents(t, pack, "--prompt", "a photo <kohya_a:0.5> of a cat", "--concept", lora)); d != 0 {
		t.Errorf("the LoRA's name in the prompt changes more than its strength: %g", d)
	}
	me := filepath.Join(t.TempDir(), "me.safetensors")
	if err := run(t, "encode", sample(t, "ada.png"), "--model", pack, "-o", me); err != nil {
		t.Fatal(err)
	}
	alone := plainLatents(t, pack, "--prompt", "<me> hat", "--concept", me)
	if d := furthest(alone, plainLatents(t, pack, "--prompt", "<me> hat", "--concept", me, "--concept", style+":0")); d > 1e-4 {
		t.Errorf("a wider layout changes a concept by %g", d)
	}
	if d := furthest(alone, plainLatents(t, pack, "--prompt", "<me> hat", "--concept", me, "--concept", style)); d < 1e-2 {
		t.Errorf("a LoRA changes a concept's picture by %g", d)
	}
	files := conceptFiles{folder: pack}
	defer files.Close()
	for path, says := range map[string]string{
		lora: "LoRA in kohya's names: ranks 1 to 5 on 48 layers of the UNet, ranks 1 to 5 on 12 layers of the text encoder",
		filepath.Join(exchanged, "word_params.safetensors"): "textual-inversion embedding: the word <word_params> of 2 vectors",
		me: "concept <me>, a face, made by encoder, 2 vectors",
	} {
		file, err := files.read(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := files.describe(file); !strings.Contains(got, path+": "+says) {
			t.Errorf("%q does not say %q", got, says)
		}
	}
}

func TestExportErrors(t *testing.T) {
	pack, dir := tinyPack(t), t.TempDir()
	lora, word := filepath.Join(exchanged, "kohya_a.safetensors"), filepath.Join(exchanged, "word_token.safetensors")
	foreign, nothing := filepath.Join(dir, "foreign.safetensors"), filepath.Join(dir, "nothing.safetensors")
	c := concept.Concept{Word: "me", Class: "face", Method: "tune", BaseModel: "other", Layout: "l", Offsets: []float32{1}}
	if err := c.Write(foreign); err != nil {
		t.Fatal(err)
	}
	export := func(path, format string, args ...string) error {
		return run(t, append([]string{"export", path, "--format", format, "--model", pack, "-o", nothing}, args...)...)
	}
	wantError(t, export(lora, "embedding"), "kohya_a.safetensors", "no word of its own")
	wantError(t, export(lora, "merged"), "kohya_a.safetensors", "text encoder")
	wantError(t, export(word, "kohya"), "word_token.safetensors", "embedding")
	wantError(t, export(foreign, "kohya"), foreign, "another base model")
	wantError(t, export(sample(t, "ada.png"), "kohya"), "ada.png")
	wantError(t, export(lora, "lycoris"), "kohya", "lycoris")
	wantError(t, export(lora, "kohya", "--model", "/nowhere"), "/nowhere")
	if _, err := os.Stat(nothing); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a failed export left a file")
	}
	bad := filepath.Join(dir, "bad.safetensors")
	if err := safetensors.Write(bad, map[string]safetensors.Tensor{"x.hada_w1_a": safetensors.F32([]float32{1}, 1)}, nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, run(t, "generate", "--model", pack, "--prompt", "hi", "--concept", bad), bad, "LoHa", "x.hada_w1_a")
}

// A LoRA of SDXL changes both text encoders as in diffusers, and so does what it is exported to.
func TestSDXLFiles(t *testing.T) {
	expected, err := safetensors.Open(filepath.Join(exchanged, "sdxl", "expected.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer expected.Close()
	for _, name := range []string{"kohya_a", "kohya_b", "peft_a", "peft_b"} {
		folder := filepath.Join("..", "models", "pipeline", "testdata", "tiny-sdxl_"+name[len(name)-1:])
		want, _, err := expected.Float32("latents_" + name)
		if err != nil {
			t.Fatal(err)
		}
		guided, _, err := expected.Float32("latents_guided_" + name)
		if err != nil {
			t.Fatal(err)
		}
		latents := func(file string, args ...string) []float32 {
			return plainLatents(t, folder, append([]string{"--prompt", "a photo of a cat", "--scheduler", "euler", "--size", "64x64", "--concept", file}, args...)...)
		}
		file := filepath.Join(exchanged, "sdxl", name+".safetensors")
		if d := furthest(want, latents(file)); d > 1e-3 {
			t.Errorf("%s: the latents differ by %g from diffusers'", name, d)
		}
		if d := furthest(guided, latents(file, "--guidance-scale", "5")); d > 1e-2 {
			t.Errorf("%s: under guidance the latents differ by %g from diffusers'", name, d)
		}
		for _, format := range []string{"kohya", "diffusers"} {
			out := filepath.Join(t.TempDir(), format+".safetensors")
			if err := run(t, "export", file, "--format", format, "-o", out, "--model", folder); err != nil {
				t.Fatal(err)
			}
			if d := furthest(want, latents(out)); d > 1e-3 {
				t.Errorf("%s as %s: the latents differ by %g", name, format, d)
			}
		}
	}
}

// A word for SDXL draws what it draws in diffusers, and so does what it is exported to.
func TestSDXLWords(t *testing.T) {
	expected, err := safetensors.Open(filepath.Join(exchanged, "sdxl", "words.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer expected.Close()
	for _, name := range []string{"word_a", "word_b"} {
		folder := filepath.Join("..", "models", "pipeline", "testdata", "tiny-sdxl_"+name[len(name)-1:])
		path := filepath.Join(exchanged, "sdxl", name+".safetensors")
		out := filepath.Join(t.TempDir(), name+".safetensors")
		if err := run(t, "export", path, "--format", "embedding", "-o", out, "--model", folder); err != nil {
			t.Fatal(err)
		}
		for scale, within := range map[string]float32{"1": 1e-3, "5": 1e-2} {
			want, _, err := expected.Float32("latents_" + scale + "_" + name)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{path, out} {
				got := plainLatents(t, folder, "--prompt", "a photo of <"+name+"> hat", "--scheduler", "euler", "--size", "64x64", "--guidance-scale", scale, "--concept", file)
				if d := furthest(want, got); d > within {
					t.Errorf("%s at guidance %s: the latents differ by %g from diffusers'", file, scale, d)
				}
			}
		}
	}
}

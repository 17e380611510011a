package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/safetensors"
)

// ldmFile writes a single-file checkpoint of the names and shapes of scripts/golden/ldm.py, all zeros, with the tokenizers beside it, and gives the tensors
// to edit first.
func ldmFile(t *testing.T, name string, edit func(map[string]safetensors.Tensor)) string {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "models", "checkpoint", "testdata", "ldm_"+name+".json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var golden struct {
		LDM map[string][]int `json:"ldm"`
	}
	unzipped, err := gzip.NewReader(f)
	if err == nil {
		err = json.NewDecoder(unzipped).Decode(&golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	tensors := map[string]safetensors.Tensor{}
	for name, shape := range golden.LDM {
		n := 2
		for _, d := range shape {
			n *= d
		}
		tensors[name] = safetensors.Tensor{DType: safetensors.TypeF16, Shape: shape, Data: make([]byte, n)}
	}
	edit(tensors)
	dir := t.TempDir()
	for _, tokenizer := range []string{"tokenizer", "tokenizer_2"} {
		if err := os.CopyFS(filepath.Join(dir, tokenizer), os.DirFS(filepath.Join("..", "models", "pipeline", "testdata", "tiny-sd", "tokenizer"))); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "model.safetensors")
	if err := safetensors.Write(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func untouched(map[string]safetensors.Tensor) {}

// Each kind of single file has every weight that its networks read, and no other; the parameters are the file's.
func TestInspectSingleFile(t *testing.T) {
	for name, want := range map[string]struct {
		architecture, prediction string
		size, parts              int
	}{
		"sd1": {"Stable Diffusion 1", "epsilon", 512, 3}, "sd2": {"Stable Diffusion 2", "v_prediction", 768, 3},
		"sdxl": {"Stable Diffusion XL", "epsilon", 1024, 4},
	} {
		r, err := (&inspectCommand{Path: ldmFile(t, name, untouched)}).inspect()
		if err != nil {
			t.Fatal(err)
		}
		if r.Architecture != want.architecture || r.Prediction != want.prediction || !slices.Equal(r.Size, []int{want.size, want.size}) ||
			len(r.Parts) != want.parts || len(r.Problems) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
		var parameters int64
		for _, p := range r.Parts {
			parameters += p.Parameters
			if p.Bytes != 2*p.Parameters || !slices.Equal(p.DTypes, []string{"F16"}) {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if r.Memory == nil || r.Memory.Weights != 2*parameters || r.Memory.Picture < int64(want.size*want.size*3*4) {
			t.Errorf("%s: memory %+v for %d parameters", name, r.Memory, parameters)
		}
		var text bytes.Buffer
		if err := r.write(&text); err != nil || !strings.Contains(text.String(), want.architecture) || !strings.Contains(text.String(), "unet") {
			t.Errorf("%s (%v)", text.String(), err)
		}
	}
}

// What lacks, what is too much and what is no number is told at once, by diffusers' names.
func TestInspectNamesWhatIsWrong(t *testing.T) {
	const block = "model.diffusion_model.input_blocks.1.0."
	path := ldmFile(t, "sd1", func(tensors map[string]safetensors.Tensor) {
		delete(tensors, block+"in_layers.0.bias")
		tensors[block+"in_layers.9.bias"] = safetensors.F16([]float32{1}, 1)
		tensors[block+"in_layers.0.weight"] = safetensors.F16(slices.Repeat([]float32{float32(math.NaN())}, 32), 32)
		delete(tensors, "first_stage_model.decoder.norm_out.weight")
	})
	if err := os.RemoveAll(filepath.Join(filepath.Dir(path), "tokenizer")); err != nil {
		t.Fatal(err)
	}
	command := &inspectCommand{Path: path, Values: true, JSON: true}
	r, err := command.inspect()
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(r.Problems, "\n")
	for _, want := range []string{
		"down_blocks.0.resnets.0.norm1.bias [32]", "down_blocks.0.resnets.0.in_layers.9.bias [1]", "decoder.conv_norm_out.weight [32]",
		"vocab.json", "not finite: down_blocks.0.resnets.0.norm1.weight",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("not told: %s\n%s", want, all)
		}
	}
	wantError(t, command.Run(t.Context()), "cannot be used")
}

func TestInspectOtherFiles(t *testing.T) {
	tiny := filepath.Join("..", "models", "pipeline", "testdata", "tiny-sd")
	exchanged := filepath.Join("..", "encoder", "exchange", "testdata")
	for _, c := range []struct {
		inspectCommand
		kind, says string
	}{
		{inspectCommand{Path: tiny}, "model folder", ""},
		{inspectCommand{Path: filepath.Join(tiny, "unet")}, "component", ""},
		{inspectCommand{Path: filepath.Join(exchanged, "peft_a.safetensors")}, "LoRA", "rank 4 on 60 layers"},
		{inspectCommand{Path: filepath.Join(exchanged, "word_params.safetensors")}, "embedding", "width 16"},
		{inspectCommand{Path: filepath.Join(exchanged, "peft_a.safetensors"), Model: tiny}, "LoRA", "fits"},
	} {
		r, err := c.inspect()
		if err != nil {
			t.Errorf("%s: %v", c.Path, err)
			continue
		}
		if !strings.Contains(r.Kind, c.kind) || !strings.Contains(strings.Join(r.Details, "\n"), c.says) || len(r.Problems) > 0 {
			t.Errorf("%s: %+v", c.Path, r)
		}
	}
	pickle := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.WriteFile(pickle, []byte("PK\x03\x04 and more of an archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := (&inspectCommand{Path: pickle}).inspect()
	wantError(t, err, pickle, "pickle")
	_, err = (&inspectCommand{Path: filepath.Join(t.TempDir(), "none")}).inspect()
	wantError(t, err, "none")
}

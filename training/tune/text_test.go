//go:build torch

package tune

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"likeness/encoder/exchange"
	"likeness/models/checkpoint"
	"likeness/models/safetensors"
)

// What is learned of the text encoder comes back from the files of other programs as it was.
func TestExportOfTheTextEncoder(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	c := tune(t, b, readPhotos(t, b, 1), config("lora"+withText)).Concept
	base, err := exchange.OpenBase(tinySD)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	for _, format := range []exchange.Format{exchange.Kohya, exchange.Diffusers} {
		a, err := exchange.FromConcept(c, nil, nil, base)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "lora.safetensors")
		if err := a.Write(path, format, base); err != nil {
			t.Fatal(err)
		}
		back, err := exchange.Read(path, base)
		if err != nil || back.Format != format || len(back.LoRA[checkpoint.TextEncoder]) == 0 || !reflect.DeepEqual(back.LoRA, c.LoRA) {
			t.Errorf("%s: %d layers of the text encoder came back as %d of %q: %v", format, len(c.LoRA[checkpoint.TextEncoder]), len(back.LoRA[checkpoint.TextEncoder]), back.Format, err)
		}
	}
}

// What dreambooth learns of the text encoder's layers is what its concept holds, at full rank; the words stay.
func TestDreamBoothOfTheTextEncoder(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	cfg := config("dreambooth" + withText)
	cfg.Rank = 128
	result := tune(t, b, readPhotos(t, b, 1), cfg)
	weights, err := result.task.weightsWith(result.numbers)
	if err != nil {
		t.Fatal(err)
	}
	first := result.task.learner.weights
	if _, words := first["text_encoder/"+tokenTable]; words || len(weights[checkpoint.TextEncoder]) == 0 {
		t.Fatalf("%d weights of the text encoder, the words among them: %v", len(weights[checkpoint.TextEncoder]), words)
	}
	layers := result.Concept.LoRA[checkpoint.TextEncoder]
	if len(layers) < 6 {
		t.Fatalf("the concept holds %d layers", len(layers))
	}
	for path, d := range layers {
		change := slices.Clone(weights[checkpoint.TextEncoder][path+".weight"])
		for i := range change {
			change[i] -= first["text_encoder/"+path+".weight"].F32[i]
		}
		if moved := distance(change, make([]float32, len(change))); moved == 0 || distance(whole(d), change) > 1e-3*moved {
			t.Errorf("%s: the concept's change is %g from the learned one of %g", path, distance(whole(d), change), moved)
		}
	}
}

// Text encoders of old files carry numbers that are no weights.
func TestOldTextEncoder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinySD)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, checkpoint.TextEncoder, "model.safetensors")
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]safetensors.Tensor{"text_model.embeddings.position_ids": safetensors.I64([]int64{0, 1, 2}, 1, 3)}
	for _, name := range f.Names() {
		if all[name], err = f.Tensor(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Close(), safetensors.Write(path, all, nil)); err != nil {
		t.Fatal(err)
	}
	b := openBase(t, newEngine(t), dir)
	cfg := config("dreambooth" + withText)
	cfg.Steps = 1
	result, made := tune(t, b, readPhotos(t, b, 1), cfg), filepath.Join(t.TempDir(), "made")
	if err := result.SaveModel(made); err != nil {
		t.Fatal(err)
	}
	openBase(t, b.engine, made)
}

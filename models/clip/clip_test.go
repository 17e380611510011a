package clip_test

import (
	"os"
	"path/filepath"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// read opens a golden case (scripts/golden): its configuration, weights, and inputs and outputs.
func read(t *testing.T, folder string, parse func([]byte) (clip.Config, error)) (cfg clip.Config, weights, io map[string]op.Array) {
	data, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err = parse(data); err != nil {
		t.Fatal(err)
	}
	return cfg, optest.Read(t, filepath.Join(folder, "model.safetensors")), optest.Read(t, filepath.Join(folder, "io.safetensors"))
}

func run(t *testing.T, model op.Model, weights, inputs map[string]op.Array) map[string]op.Array {
	out, err := ref.Run(model, weights, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestText holds the text transformer against transformers' CLIPTextModel.
func TestText(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/text_*") {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			cfg, weights, io := read(t, folder, clip.ParseTextConfig)
			optest.Manifest(t, weights, clip.Text(cfg))
			d := append(append([]int(nil), io["input_ids"].Dims...), cfg.HiddenSize)
			io["concept_embeddings"] = op.Floats(make([]float32, op.Size(d)), d...)
			out := run(t, clip.Text(cfg), weights, io)
			for _, name := range []string{"last_hidden_state", "penultimate", "pooler_output"} {
				optest.Near(t, name, out[name], io[name], 1e-3)
			}
		})
	}
}

// TestConceptEmbeddings holds a residual to one token's embedding against that of another token in its place.
func TestConceptEmbeddings(t *testing.T) {
	cfg, weights, io := read(t, "testdata/text_gelu", clip.ParseTextConfig)
	const batch, place, class, word = 1, 3, 7, 30
	length, d := cfg.MaxPositionEmbeddings, cfg.HiddenSize
	ids := append([]int64(nil), io["input_ids"].I64[:length]...)
	residual := op.Floats(make([]float32, batch*length*d), batch, length, d)
	ids[place] = word
	inputs := map[string]op.Array{"input_ids": op.Ints(append([]int64(nil), ids...), batch, length), "concept_embeddings": residual}
	want := run(t, clip.Text(cfg), weights, inputs)["last_hidden_state"]

	ids[place] = class
	table := weights["text_model.embeddings.token_embedding.weight"].F32
	moved := append([]float32(nil), residual.F32...)
	for i := range d {
		moved[place*d+i] = table[word*d+i] - table[class*d+i]
	}
	inputs = map[string]op.Array{"input_ids": op.Ints(ids, batch, length), "concept_embeddings": op.Floats(moved, batch, length, d)}
	optest.Near(t, "last_hidden_state", run(t, clip.Text(cfg), weights, inputs)["last_hidden_state"], want, 1e-4)
}

// TestVision holds the vision transformer against transformers' CLIPVisionModelWithProjection.
func TestVision(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/vision_*") {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			cfg, weights, io := read(t, folder, clip.ParseVisionConfig)
			optest.Manifest(t, weights, clip.Vision(cfg))
			out := run(t, clip.Vision(cfg), weights, io)
			for _, name := range []string{"last_hidden_state", "image_embeds"} {
				optest.Near(t, name, out[name], io[name], 1e-3)
			}
		})
	}
}

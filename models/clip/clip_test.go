package clip_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
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
				optest.Near(t, name, out[name], io[name], 1e-4)
			}
			if cfg.Projection {
				optest.Near(t, "text_embeds", out["text_embeds"], io["text_embeds"], 1e-4)
			}
		})
	}
}

// TestSelect holds each selectable state against transformers' hidden_states, and its reading against the layers it needs.
func TestSelect(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/text_projection_*") {
		cfg, weights, io := read(t, folder, clip.ParseTextConfig)
		d := append(append([]int(nil), io["input_ids"].Dims...), cfg.HiddenSize)
		io["concept_embeddings"] = op.Floats(make([]float32, op.Size(d)), d...)
		for skip := range cfg.NumHiddenLayers {
			for _, norm := range []bool{false, true} {
				name := fmt.Sprintf("hidden_states.%d", skip)
				if norm {
					name = fmt.Sprintf("normed.%d", skip)
				}
				model := clip.Select(cfg, clip.Selection{Skip: skip, Norm: norm})
				out := run(t, model, weights, io)
				optest.Near(t, name, out["encoder_hidden_states"], io[name], 1e-4)
				list, err := trace.Weights(model)
				if err != nil {
					t.Fatal(err)
				}
				want := 2 + 16*(cfg.NumHiddenLayers-skip)
				if norm {
					want += 2
				}
				if len(list) != want || len(out) != 1 {
					t.Errorf("%s: %d weights and %d outputs, want %d and 1", name, len(list), len(out), want)
				}
			}
		}
		pooled := clip.Select(cfg, clip.Selection{Skip: 1, Pooled: true})
		optest.Manifest(t, weights, pooled)
		out := run(t, pooled, weights, io)
		optest.Near(t, "encoder_hidden_states", out["encoder_hidden_states"], io["penultimate"], 1e-4)
		optest.Near(t, "text_embeds", out["text_embeds"], io["text_embeds"], 1e-4)
		cfg.Projection = false
		out = run(t, clip.Select(cfg, clip.Selection{Norm: true, Pooled: true}), weights, io)
		optest.Near(t, "encoder_hidden_states", out["encoder_hidden_states"], io["last_hidden_state"], 1e-4)
		optest.Near(t, "pooler_output", out["pooler_output"], io["pooler_output"], 1e-4)
	}
}

// TestSelectRefuses: there are as many layers to pass over as the configuration has.
func TestSelectRefuses(t *testing.T) {
	for _, skip := range []int{-1, 13} {
		_, err := trace.Weights(clip.Select(clip.TextDefault(), clip.Selection{Skip: skip}))
		if want := fmt.Sprintf("clip_skip passes over %d of num_hidden_layers 12", skip); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
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
			for _, name := range []string{"last_hidden_state", "penultimate", "image_embeds"} {
				optest.Near(t, name, out[name], io[name], 1e-3)
			}
		})
	}
}

// TestPublishedSizes holds the manifests against the numbers of tensors and parameters that transformers counts.
func TestPublishedSizes(t *testing.T) {
	type parser = func([]byte) (clip.Config, error)
	for text, c := range map[string]struct {
		parse               parser
		model               func(clip.Config) op.Model
		tensors, parameters int
	}{
		`{"model_type": "clip_text_model", "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "eos_token_id": 2}`: {
			clip.ParseTextConfig, clip.Text, 196, 123_060_480},
		`{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 23, "hidden_act": "gelu"}`: {
			clip.ParseTextConfig, clip.Text, 372, 340_387_840},
		`{"architectures": ["CLIPTextModelWithProjection"], "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "gelu", "hidden_size": 1280,
			"intermediate_size": 5120, "num_attention_heads": 20, "num_hidden_layers": 32, "projection_dim": 1280, "torch_dtype": "float16"}`: {
			clip.ParseTextConfig, clip.Text, 517, 694_659_840},
		`{"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768}`: {
			clip.ParseVisionConfig, clip.Vision, 392, 303_966_208},
	} {
		cfg, err := c.parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		weights, err := trace.Weights(c.model(cfg))
		if err != nil {
			t.Fatal(err)
		}
		parameters := 0
		for _, w := range weights {
			parameters += op.Size(w.Dims)
		}
		if len(weights) != c.tensors || parameters != c.parameters {
			t.Errorf("%s: %d tensors of %d parameters, want %d of %d", text, len(weights), parameters, c.tensors, c.parameters)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"hidden_width": 8}`:                    "unknown keys: hidden_width",
		`{"num_attention_heads": 5}`:             "num_attention_heads: 5",
		`{"num_attention_heads": 0}`:             "num_attention_heads: 0",
		`{"num_hidden_layers": 0}`:               "must be positive",
		`{"is_encoder_decoder": true}`:           "is_encoder_decoder is true",
		`{"image_size": 224, "patch_size": 15}`:  "image_size 224",
		`{"image_size": 224, "patch_size": -14}`: "patch_size -14",
	} {
		if _, err := clip.ParseVisionConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"architectures": ["T5EncoderModel"]}`:                                   `architectures: "T5EncoderModel"`,
		`{"architectures": "CLIPTextModel"}`:                                      "architectures",
		`{"vocab_size": 0}`:                                                       "vocab_size",
		`{"max_position_embeddings": 0}`:                                          "max_position_embeddings",
		`{"architectures": ["CLIPTextModelWithProjection"], "projection_dim": 0}`: "projection_dim: 0",
		`{"hidden_act": "mish"}`:                                                  `hidden_act: "mish"`,
	} {
		if _, err := clip.ParseTextConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", text, err, want)
		}
	}
	cfg := clip.TextDefault()
	cfg.HiddenAct = "mish"
	if _, err := trace.Weights(clip.Text(cfg)); err == nil || !strings.Contains(err.Error(), `text_model.encoder.layers.0.mlp: config: activation "mish"`) {
		t.Errorf("an unknown activation: the error is %v", err)
	}
}

// TestTextConfigRoundTrip: what training writes is what serving reads.
func TestTextConfigRoundTrip(t *testing.T) {
	for _, folder := range []string{"testdata/text_gelu", "testdata/text_projection_a"} {
		want, _, _ := read(t, folder, clip.ParseTextConfig)
		data, err := want.TextJSON()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := clip.ParseTextConfig(data); err != nil || got != want {
			t.Errorf("read %+v (%v), wrote %+v", got, err, want)
		}
	}
}

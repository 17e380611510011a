package unet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/unet"
)

// Published configurations, whole or in what differs from diffusers' defaults.
const (
	sd15 = `{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
		"block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 768,
		"down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
		"downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
		"mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
		"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}`
	inpaint = `{"in_channels": 9, "attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64}`
	lcm     = `{"time_cond_proj_dim": 256, "attention_head_dim": 8, "cross_attention_dim": 768, "num_attention_heads": null}`
	sdxl    = `{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.19.0.dev0", "act_fn": "silu",
		"addition_embed_type": "text_time", "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256,
		"attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280], "center_input_sample": false, "class_embed_type": null,
		"class_embeddings_concat": false, "conv_in_kernel": 3, "conv_out_kernel": 3, "cross_attention_dim": 2048,
		"cross_attention_norm": null, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
		"downsample_padding": 1, "dual_cross_attention": false, "encoder_hid_dim": null, "encoder_hid_dim_type": null,
		"flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2, "mid_block_only_cross_attention": null,
		"mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "norm_eps": 1e-05, "norm_num_groups": 32,
		"num_attention_heads": null, "num_class_embeds": null, "only_cross_attention": false, "out_channels": 4,
		"projection_class_embeddings_input_dim": 2816, "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": false,
		"resnet_time_scale_shift": "default", "sample_size": 128, "time_cond_proj_dim": null, "time_embedding_act_fn": null,
		"time_embedding_dim": null, "time_embedding_type": "positional", "timestep_post_act": null,
		"transformer_layers_per_block": [1, 2, 10], "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
		"upcast_attention": null, "use_linear_projection": true}`
	sd21 = `{"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "dual_cross_attention": false, "num_class_embeds": null,
		"only_cross_attention": false, "sample_size": 96, "upcast_attention": true, "use_linear_projection": true}`
)

// sizes counts a model's weights and the numbers in them.
func sizes(t *testing.T, model op.Model) (tensors, parameters int) {
	t.Helper()
	weights, err := trace.Weights(model)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range weights {
		parameters += op.Size(w.Dims)
	}
	return len(weights), parameters
}

// TestPublishedSizes holds the manifests against the numbers of tensors and parameters that diffusers counts.
func TestPublishedSizes(t *testing.T) {
	for text, want := range map[string]struct{ tensors, parameters int }{sd15: {686, 859_520_964}, sd21: {686, 865_910_724},
		sdxl: {1680, 2_567_463_684}, inpaint: {686, 859_535_364}, lcm: {687, 859_602_884}} {
		cfg, err := unet.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if tensors, parameters := sizes(t, unet.New(cfg, nil)); tensors != want.tensors || parameters != want.parameters {
			t.Errorf("%d tensors of %d parameters, want %d of %d", tensors, parameters, want.tensors, want.parameters)
		}
	}
}

// TestOffsetTargets counts the attention projections of Stable Diffusion 1.5: 16 blocks of two attentions with four each.
func TestOffsetTargets(t *testing.T) {
	cfg, err := unet.ParseConfig([]byte(sd15))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := trace.Layout(unet.New(cfg, nil), 4, func(path string) bool { return strings.Contains(path, ".attn") })
	if err != nil {
		t.Fatal(err)
	}
	if n := len(layout.Targets()); n != 128 {
		t.Errorf("%d targets, want 128", n)
	}
	r, err := trace.Model(unet.New(cfg, layout))
	if err != nil {
		t.Fatal(err)
	}
	if dims := r.Outputs["noise_pred"]; len(dims) != 4 || dims[1] != 4 {
		t.Errorf("noise_pred has dims %v, want 4 channels", dims)
	}
}

func TestConfigRefuses(t *testing.T) {
	for want, change := range map[string]string{
		"unknown keys: attention_style":                      `"attention_style": 1`,
		"block_out_channels, down_block":                     `"block_out_channels": [320, 640]`,
		"norm_num_groups":                                    `"block_out_channels": [320, 640, 1280, 1281]`,
		"attention_head_dim: 7 heads":                        `"attention_head_dim": 7`,
		"attention_head_dim: 2 entries":                      `"attention_head_dim": [8, 8]`,
		"layers_per_block: 0":                                `"layers_per_block": 0`,
		"down_block_types[0]":                                `"down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"]`,
		"act_fn":                                             `"act_fn": "mish"`,
		"dual_cross_attention is true":                       `"dual_cross_attention": true`,
		"center_input_sample":                                `"center_input_sample": true`,
		"class_embed_type":                                   `"class_embed_type": "timestep"`,
		"sample_size: ":                                      `"sample_size": [1, 2, 3]`,
		`layers_per_block: "two"`:                            `"layers_per_block": "two"`,
		"transformer_layers_per_block: [1":                   `"transformer_layers_per_block": [1, [2, 2], 1, 1]`,
		"reverse_transformer_layers_per_block: not":          `"reverse_transformer_layers_per_block": [1, 1, 1, 1]`,
		"transformer_layers_per_block: 0":                    `"transformer_layers_per_block": [0, 1, 1, 1]`,
		"cross_attention_dim: level 1":                       `"cross_attention_dim": [768, 512, 768, 768]`,
		"mid_block_type: null":                               `"mid_block_type": null`,
		"in_channels":                                        `"in_channels": 0`,
		"addition_embed_type: \"text\"":                      `"addition_embed_type": "text"`,
		"addition_time_embed_dim: 256, but":                  `"addition_time_embed_dim": 256`,
		"projection_class_embeddings_input_dim: 2816, but":   `"projection_class_embeddings_input_dim": 2816`,
		"addition_time_embed_dim: 0":                         `"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 2816`,
		"projection_class_embeddings_input_dim: 1536 leaves": `"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 1536`,
		"time_cond_proj_dim: -1":                             `"time_cond_proj_dim": -1`,
		"encoder_hid_dim_type":                               `"encoder_hid_dim_type": "ip_image_proj"`,
		"mid_block_type":                                     `"mid_block_type": "UNetMidBlock2D"`,
		`_class_name is "AutoencoderKL"`:                     `"_class_name": "AutoencoderKL"`,
	} {
		text := strings.TrimSuffix(sd15, "}") + "," + change + "}" // the last of two equal keys counts
		if _, err := unet.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", change, err, want)
		}
	}
}

// TestConfigRoundTrip: what training writes is what serving reads.
func TestConfigRoundTrip(t *testing.T) {
	for _, text := range []string{sd15, sd21, sdxl, inpaint, lcm, `{"sample_size": [8, 16]}`} {
		cfg, err := unet.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		written, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := unet.ParseConfig(written)
		if err != nil {
			t.Fatal(err)
		}
		if twice, _ := json.Marshal(again); string(twice) != string(written) {
			t.Errorf("read again:\n%s\nwritten:\n%s", twice, written)
		}
	}
}

// TestUnattendedLevel: what belongs to attention may be anything at a level that has none, as conversions from other layouts write it.
func TestUnattendedLevel(t *testing.T) {
	text := strings.Replace(sdxl, "[1, 2, 10]", "[0, 2, 10]", 1)
	if _, err := unet.ParseConfig([]byte(strings.Replace(text, "[5, 10, 20]", "[0, 10, 20]", 1))); err != nil {
		t.Error(err)
	}
}

// TestConditionMissing: Forward names the input that a configuration needs and the caller left out.
func TestConditionMissing(t *testing.T) {
	for text, want := range map[string]string{sdxl: "add_embedding: config: the configuration needs the input text_embeds",
		lcm: "time_embedding: config: the configuration needs the input timestep_cond"} {
		cfg, err := unet.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		_, err = trace.Weights(func(s op.Scope) map[string]op.Tensor {
			in := unet.Inputs{Sample: s.Input("sample", op.Float32, -1, 4, -1, -1), Timestep: s.Input("timestep", op.Float32, -1)}
			return map[string]op.Tensor{"noise_pred": unet.Forward(s, cfg, in)}
		})
		if err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}

package unet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/unet"
)

// Two published configurations: of Stable Diffusion 1.5 and, in what differs, 2.1.
const (
	sd15 = `{"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu", "attention_head_dim": 8,
		"block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 768,
		"down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
		"downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
		"mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
		"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]}`
	sd21 = `{"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024, "dual_cross_attention": false, "num_class_embeds": null,
		"only_cross_attention": false, "sample_size": 96, "upcast_attention": true, "use_linear_projection": true}`
)

// TestPublishedSizes holds the manifests against the numbers of tensors and parameters that diffusers counts.
func TestPublishedSizes(t *testing.T) {
	for text, want := range map[string]struct{ tensors, parameters int }{sd15: {686, 859_520_964}, sd21: {686, 865_910_724}} {
		cfg, err := unet.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		weights, err := trace.Weights(unet.New(cfg, nil))
		if err != nil {
			t.Fatal(err)
		}
		parameters := 0
		for _, w := range weights {
			parameters += op.Size(w.Dims)
		}
		if len(weights) != want.tensors || parameters != want.parameters {
			t.Errorf("%d tensors of %d parameters, want %d of %d", len(weights), parameters, want.tensors, want.parameters)
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
		"unknown keys: attention_style":  `"attention_style": 1`,
		"block_out_channels, down_block": `"block_out_channels": [320, 640]`,
		"norm_num_groups":                `"block_out_channels": [320, 640, 1280, 1281]`,
		"attention_head_dim: 7 heads":    `"attention_head_dim": 7`,
		"attention_head_dim: 2 entries":  `"attention_head_dim": [8, 8]`,
		"layers_per_block: 0":            `"layers_per_block": 0`,
		"down_block_types[0]":            `"down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"]`,
		"act_fn":                         `"act_fn": "mish"`,
		"dual_cross_attention is true":   `"dual_cross_attention": true`,
		"center_input_sample":            `"center_input_sample": true`,
		"class_embed_type":               `"class_embed_type": "timestep"`,
		"sample_size: ":                  `"sample_size": [1, 2, 3]`,
		"neither a number nor a list":    `"layers_per_block": "two"`,
		"mid_block_type":                 `"mid_block_type": "UNetMidBlock2D"`,
		`_class_name is "AutoencoderKL"`: `"_class_name": "AutoencoderKL"`,
	} {
		text := strings.TrimSuffix(sd15, "}") + "," + change + "}" // the last of two equal keys counts
		if _, err := unet.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", change, err, want)
		}
	}
}

// TestConfigRoundTrip: what training writes is what serving reads.
func TestConfigRoundTrip(t *testing.T) {
	for _, text := range []string{sd15, sd21, `{"sample_size": [8, 16]}`} {
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

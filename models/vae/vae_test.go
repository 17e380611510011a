package vae_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/vae"
)

// TestGolden holds encoder and decoder against diffusers' AutoencoderKL (scripts/golden).
func TestGolden(t *testing.T) {
	for _, folder := range optest.Folders(t, "testdata/*") {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(folder, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := vae.ParseConfig(data)
			if err != nil {
				t.Fatal(err)
			}
			weights := optest.Read(t, filepath.Join(folder, "diffusion_pytorch_model.safetensors"))
			io := optest.Read(t, filepath.Join(folder, "io.safetensors"))
			optest.Manifest(t, weights, vae.Encoder(cfg), vae.Decoder(cfg))
			encoded, err := ref.Run(vae.Encoder(cfg), weights, io)
			if err != nil {
				t.Fatal(err)
			}
			decoded, err := ref.Run(vae.Decoder(cfg), weights, io)
			if err != nil {
				t.Fatal(err)
			}
			optest.Near(t, "latent_mean", encoded["latent_mean"], io["latent_mean"], 1e-3)
			optest.Near(t, "latent_logvar", encoded["latent_logvar"], io["latent_logvar"], 1e-3)
			optest.Near(t, "image", decoded["image"], io["image"], 1e-3)
		})
	}
}

// published is the configuration of Stable Diffusion 1.5's autoencoder.
const published = `{"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
	"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
	"up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"], "in_channels": 3, "out_channels": 3,
	"latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 512}`

// TestPublishedSize holds the manifest against the numbers of tensors and parameters that diffusers counts.
func TestPublishedSize(t *testing.T) {
	cfg, err := vae.ParseConfig([]byte(published))
	if err != nil {
		t.Fatal(err)
	}
	tensors, parameters := 0, 0
	for _, model := range []op.Model{vae.Encoder(cfg), vae.Decoder(cfg)} {
		weights, err := trace.Weights(model)
		if err != nil {
			t.Fatal(err)
		}
		tensors += len(weights)
		for _, w := range weights {
			parameters += op.Size(w.Dims)
		}
	}
	if tensors != 248 || parameters != 83_653_863 {
		t.Errorf("%d tensors of %d parameters, want 248 of 83653863", tensors, parameters)
	}
	if cfg.Factor() != 8 || cfg.ScalingFactor != 0.18215 || cfg.Shift() != 0 {
		t.Errorf("factor %d, scaling factor %g, shift %g, want 8, 0.18215, 0", cfg.Factor(), cfg.ScalingFactor, cfg.Shift())
	}
}

// TestXL reads what diffusers writes of SDXL's autoencoder, and the statistics that some of its kin carry.
func TestXL(t *testing.T) {
	text := strings.TrimSuffix(published, "}") + `, "force_upcast": true, "latents_mean": null, "latents_std": null,
		"mid_block_add_attention": true, "sample_size": 1024, "scaling_factor": 0.13025, "shift_factor": null, "use_quant_conv": true,
		"use_post_quant_conv": true, "_diffusers_version": "0.20.0.dev0", "_name_or_path": "../sdxl-vae/"}`
	cfg, err := vae.ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ScalingFactor != 0.13025 || cfg.Shift() != 0 || cfg.LatentsMean != nil || cfg.LatentsStd != nil || cfg.Factor() != 8 {
		t.Errorf("read %+v", cfg)
	}
	text = strings.Replace(text, `"latents_mean": null, "latents_std": null`, `"latents_mean": [-1.6, 1.9, -1.4, 2.5], "latents_std": [8.4, 5.9, 6.9, 6.4]`, 1)
	if cfg, err = vae.ParseConfig([]byte(text)); err != nil || cfg.LatentsMean[3] != 2.5 || cfg.LatentsStd[0] != 8.4 {
		t.Errorf("read %+v (%v)", cfg, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for change, want := range map[string]string{
		`"latent_depth": 4`:                                      "unknown keys: latent_depth",
		`"block_out_channels": [128, 256]`:                       "down_block_types: 4 entries",
		`"block_out_channels": []`:                               "block_out_channels: empty",
		`"block_out_channels": [128, 256, 512, 500]`:             "block_out_channels[3]: 500",
		`"scaling_factor": 0`:                                    "scaling_factor: 0",
		`"latents_mean": [0, 0, 0, 0]`:                           "latents_mean and latents_std",
		`"latents_mean": [0, 0, 0], "latents_std": [1, 1, 1, 1]`: "latents_mean: 3 entries",
		`"in_channels": 0`:                                       "in_channels",
		`"latent_channels": 0`:                                   "latent_channels",
		`"act_fn": "relu"`:                                       "act_fn",
		`"down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"]`: "down_block_types[3]",
		`"_class_name": "UNet2DConditionModel"`: "_class_name",
	} {
		text := strings.TrimSuffix(published, "}") + "," + change + "}" // the last of two equal keys counts
		if _, err := vae.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want %q", change, err, want)
		}
	}
}

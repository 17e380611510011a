package vae_test

import (
	"os"
	"path/filepath"
	"testing"

	"likeness/models/backend/ref"
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

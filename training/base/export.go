//go:build torch

package base

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/safetensors"
	"likeness/models/vae"
	"likeness/training/loop"
)

// ExportVAE writes the VAE of a run as a component folder in half precision, with the scaling factor that gives latents of validation
// pictures a deviation of one.
func ExportVAE(engine *torch.Engine, arch vae.Config, run, dir string) error {
	weights, err := loop.Average(run)
	if err != nil {
		return err
	}
	params, err := engine.NewParams(weights, false)
	if err != nil {
		return err
	}
	defer params.Free()
	deviation, err := latentDeviation(engine, arch, params)
	if err != nil {
		return err
	}
	arch.ScalingFactor = 1 / deviation
	return writeComponent(dir, arch, "AutoencoderKL", weights)
}

func latentDeviation(engine *torch.Engine, arch vae.Config, params *torch.Params) (float64, error) {
	pictures := ValidationPictures(128)
	size := 3 * arch.SampleSize * arch.SampleSize
	values := make([]float32, len(pictures)*size)
	for i, p := range pictures {
		pixels.Planes(values[i*size:], p)
	}
	in := map[string]op.Array{"pixel_values": op.Floats(values, len(pictures), 3, arch.SampleSize, arch.SampleSize)}
	out, err := engine.Run(vae.Encoder(arch), in, params)
	if err != nil {
		return 0, err
	}
	var sum, squares float64
	latents := out["latent_mean"].F32
	for _, x := range latents {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	n := float64(len(latents))
	return math.Sqrt(squares/n - sum/n*sum/n), nil
}

// Export writes the text encoder, UNet and scheduler of a run, and a copy of the tokenizer's folder, into a diffusers folder that already
// has the VAE.
func (d *Diffusion) Export(run, tokenizer, dir string) error {
	weights, err := loop.Average(run)
	if err != nil {
		return err
	}
	text, err := d.Text.TextJSON()
	if err != nil {
		return err
	}
	components := []struct {
		name, class string
		config      any
	}{{"unet", "UNet2DConditionModel", d.UNet}, {"text_encoder", "CLIPTextModel", json.RawMessage(text)}}
	for _, c := range components {
		part := map[string]op.Array{}
		for name, a := range weights {
			if rest, ok := strings.CutPrefix(name, c.name+"/"); ok {
				part[rest] = a
			}
		}
		if err := writeComponent(filepath.Join(dir, c.name), c.config, c.class, part); err != nil {
			return err
		}
	}
	schedule := filepath.Join(dir, "scheduler")
	if err := os.MkdirAll(schedule, 0o755); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(schedule, "scheduler_config.json"), d.Scheduler, "DDIMScheduler"); err != nil {
		return err
	}
	to := filepath.Join(dir, "tokenizer")
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.CopyFS(to, os.DirFS(tokenizer)); err != nil {
		return err
	}
	return WriteIndex(dir, false)
}

// WriteIndex writes the model_index.json of a pack, with or without an encoder.
func WriteIndex(dir string, encoder bool) error {
	components := map[string][2]string{
		"vae": {"diffusers", "AutoencoderKL"}, "unet": {"diffusers", "UNet2DConditionModel"}, "scheduler": {"diffusers", "DDIMScheduler"},
		"text_encoder": {"transformers", "CLIPTextModel"}, "tokenizer": {"transformers", "CLIPTokenizer"},
	}
	if encoder {
		components["encoder"] = [2]string{"likeness", "LikenessEncoder"}
	}
	return checkpoint.WriteIndex(dir, "StableDiffusionPipeline", components)
}

// writeComponent writes weights in half precision.
func writeComponent(dir string, config any, class string, weights map[string]op.Array) error {
	named, err := withClass(config, class)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return checkpoint.WriteComponent(dir, named, Half(weights), nil)
}

// Half converts weights to half precision.
func Half(weights map[string]op.Array) map[string]safetensors.Tensor {
	tensors := map[string]safetensors.Tensor{}
	for name, a := range weights {
		tensors[name] = safetensors.F16(a.F32, a.Dims...)
	}
	return tensors
}

func writeJSON(path string, config any, class string) error {
	named, err := withClass(config, class)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return checkpoint.WriteJSON(path, named)
}

// withClass adds _class_name to a configuration, except to that of a transformers model, which has architectures instead.
func withClass(config any, class string) (map[string]any, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var named map[string]any
	if err := json.Unmarshal(data, &named); err != nil {
		return nil, err
	}
	if _, ok := named["architectures"]; !ok {
		named["_class_name"] = class
	}
	return named, nil
}

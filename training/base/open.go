//go:build torch

package base

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"likeness/models/backend/torch"
	"likeness/models/checkpoint"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/scheduler"
	"likeness/models/tokenizer"
	"likeness/models/unet"
	"likeness/models/vae"
	"likeness/training/latents"
)

// OpenDiffusion prepares the second stage on the VAE in a component folder, whose configuration replaces that of arch.
func OpenDiffusion(engine *torch.Engine, arch Architecture, tok *tokenizer.Tokenizer, vaeDir string) (*Diffusion, error) {
	c, err := checkpoint.OpenComponent(vaeDir)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if arch.VAE, err = vae.ParseConfig(c.Config()); err != nil {
		return nil, fmt.Errorf("%s: %w", vaeDir, err)
	}
	weights, err := Freeze(engine, c, "")
	if err != nil {
		return nil, err
	}
	return &Diffusion{Architecture: arch, Tokenizer: tok, Pool: latents.Default(arch.VAE, 1), VAE: weights}, nil
}

// StartFrom makes the training begin at the text encoder and UNet of a diffusers folder, which must be of the same architecture.
func (d *Diffusion) StartFrom(dir string) error {
	d.First = map[string]op.Array{}
	for _, name := range []string{"text_encoder", "unet"} {
		c, err := checkpoint.OpenComponent(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		weights, err := Weights(c, name+"/")
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
		maps.Copy(d.First, weights)
	}
	return nil
}

// Frozen is a base model that is read and not trained.
type Frozen struct {
	Architecture
	UNetAndText []*torch.Params // components unet and text_encoder
	VAE         *torch.Params
}

// OpenFrozen reads a diffusers folder.
func OpenFrozen(engine *torch.Engine, folder *checkpoint.Folder) (*Frozen, error) {
	f := &Frozen{}
	parts := []struct {
		name, prefix string
		parse        func([]byte) error
	}{
		{"unet", "unet/", func(b []byte) (err error) { f.UNet, err = unet.ParseConfig(b); return }},
		{"text_encoder", "text_encoder/", func(b []byte) (err error) { f.Text, err = clip.ParseTextConfig(b); return }},
		{"vae", "", func(b []byte) (err error) { f.Architecture.VAE, err = vae.ParseConfig(b); return }},
		{"scheduler", "", func(b []byte) (err error) { f.Scheduler, err = scheduler.ParseConfig(b); return }},
	}
	for _, p := range parts {
		c, err := folder.Component(p.name)
		if err != nil {
			return nil, err
		}
		if err := p.parse(c.Config()); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Path(), err)
		}
		if p.name == "scheduler" {
			continue
		}
		weights, err := Freeze(engine, c, p.prefix)
		if err != nil {
			return nil, err
		}
		if p.name == "vae" {
			f.VAE = weights
		} else {
			f.UNetAndText = append(f.UNetAndText, weights)
		}
	}
	return f, nil
}

// Weights reads a component's weights, each name after prefix.
func Weights(c *checkpoint.Component, prefix string) (map[string]op.Array, error) {
	weights := map[string]op.Array{}
	for _, name := range c.Names() {
		values, dims, err := c.Float32(name)
		if err != nil {
			return nil, err
		}
		weights[prefix+name] = op.Floats(values, dims...)
	}
	return weights, nil
}

// Freeze puts weights that are only read on the engine.
func Freeze(engine *torch.Engine, c *checkpoint.Component, prefix string) (*torch.Params, error) {
	var names []string
	for _, name := range c.Names() {
		names = append(names, prefix+name)
	}
	return engine.ReadParams(names, func(name string) (op.Array, error) {
		values, dims, err := c.Float32(strings.TrimPrefix(name, prefix))
		return op.Floats(values, dims...), err
	}, false)
}

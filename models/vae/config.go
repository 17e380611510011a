// Package vae is diffusers' AutoencoderKL: images to latents and back.
package vae

import (
	"fmt"

	"likeness/models/config"
)

// Config is an AutoencoderKL's config.json.
type Config struct {
	InChannels       int      `json:"in_channels"`
	OutChannels      int      `json:"out_channels"`
	DownBlockTypes   []string `json:"down_block_types"`
	UpBlockTypes     []string `json:"up_block_types"`
	BlockOutChannels []int    `json:"block_out_channels"`
	LayersPerBlock   int      `json:"layers_per_block"`
	ActFn            string   `json:"act_fn"`
	LatentChannels   int      `json:"latent_channels"`
	NormNumGroups    int      `json:"norm_num_groups"`
	SampleSize       int      `json:"sample_size"`
	ScalingFactor    float64  `json:"scaling_factor"`
	ShiftFactor      *float64 `json:"shift_factor"`
	ForceUpcast      bool     `json:"force_upcast"`
	UseQuantConv     bool     `json:"use_quant_conv"`
	UsePostQuantConv bool     `json:"use_post_quant_conv"`
	MidBlockAddAttn  bool     `json:"mid_block_add_attention"`

	// LatentsMean and LatentsStd are of latent_channels each, nil in most releases. Where both are there, StableDiffusionXLPipeline decodes
	// latents·std/scaling_factor + mean in place of latents/scaling_factor; StableDiffusionPipeline reads neither.
	LatentsMean []float64 `json:"latents_mean"`
	LatentsStd  []float64 `json:"latents_std"`
}

// Default holds the values that diffusers assumes for absent keys.
func Default() Config {
	return Config{InChannels: 3, OutChannels: 3, LayersPerBlock: 1, ActFn: "silu", LatentChannels: 4, NormNumGroups: 32,
		SampleSize: 32, ScalingFactor: 0.18215, ForceUpcast: true, UseQuantConv: true, UsePostQuantConv: true, MidBlockAddAttn: true}
}

// ParseConfig reads a config.json; an unknown or contradictory key is an error that names it.
func ParseConfig(data []byte) (Config, error) {
	c := Default()
	if err := config.Parse(data, "AutoencoderKL", &c, nil); err != nil {
		return Config{}, err
	}
	return c, c.check()
}

func (c Config) check() error {
	n := len(c.BlockOutChannels)
	switch {
	case n == 0:
		return fmt.Errorf("block_out_channels: empty")
	case len(c.DownBlockTypes) != n:
		return fmt.Errorf("down_block_types: %d entries for %d block_out_channels", len(c.DownBlockTypes), n)
	case len(c.UpBlockTypes) != n:
		return fmt.Errorf("up_block_types: %d entries for %d block_out_channels", len(c.UpBlockTypes), n)
	case c.InChannels < 1 || c.OutChannels < 1:
		return fmt.Errorf("in_channels and out_channels: %d and %d, must be positive", c.InChannels, c.OutChannels)
	case c.LatentChannels < 1 || c.LayersPerBlock < 1 || c.NormNumGroups < 1:
		return fmt.Errorf("latent_channels, layers_per_block and norm_num_groups must be positive")
	}
	for i, ch := range c.BlockOutChannels {
		if ch < 1 || ch%c.NormNumGroups != 0 {
			return fmt.Errorf("block_out_channels[%d]: %d is no multiple of norm_num_groups %d", i, ch, c.NormNumGroups)
		}
		if c.DownBlockTypes[i] != "DownEncoderBlock2D" {
			return fmt.Errorf("down_block_types[%d]: %q, known is DownEncoderBlock2D", i, c.DownBlockTypes[i])
		}
		if c.UpBlockTypes[i] != "UpDecoderBlock2D" {
			return fmt.Errorf("up_block_types[%d]: %q, known is UpDecoderBlock2D", i, c.UpBlockTypes[i])
		}
	}
	if c.ActFn != "silu" {
		return fmt.Errorf("act_fn: %q, known is silu", c.ActFn)
	}
	return c.checkScale()
}

// checkScale checks what lies between the latents of the denoiser and those of the decoder.
func (c Config) checkScale() error {
	if c.ScalingFactor <= 0 {
		return fmt.Errorf("scaling_factor: %g, must be positive", c.ScalingFactor)
	}
	if (c.LatentsMean == nil) != (c.LatentsStd == nil) {
		return fmt.Errorf("latents_mean and latents_std: one is there without the other")
	}
	for key, list := range map[string][]float64{"latents_mean": c.LatentsMean, "latents_std": c.LatentsStd} {
		if list != nil && len(list) != c.LatentChannels {
			return fmt.Errorf("%s: %d entries for %d latent_channels", key, len(list), c.LatentChannels)
		}
	}
	return nil
}

// Factor is the number of image pixels along one side of a latent.
func (c Config) Factor() int { return 1 << (len(c.BlockOutChannels) - 1) }

// Shift is shift_factor, 0 where there is none.
func (c Config) Shift() float64 {
	if c.ShiftFactor == nil {
		return 0
	}
	return *c.ShiftFactor
}

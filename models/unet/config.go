// Package unet is diffusers' UNet2DConditionModel, the denoiser of Stable Diffusion.
package unet

import (
	"encoding/json"
	"fmt"

	"likeness/models/config"
)

// Config is a UNet2DConditionModel's config.json.
type Config struct {
	SampleSize            Size     `json:"sample_size"`
	InChannels            int      `json:"in_channels"`
	OutChannels           int      `json:"out_channels"`
	CenterInputSample     bool     `json:"center_input_sample"`
	FlipSinToCos          bool     `json:"flip_sin_to_cos"`
	FreqShift             float64  `json:"freq_shift"`
	DownBlockTypes        []string `json:"down_block_types"`
	MidBlockType          string   `json:"mid_block_type"`
	UpBlockTypes          []string `json:"up_block_types"`
	BlockOutChannels      []int    `json:"block_out_channels"`
	LayersPerBlock        PerLevel `json:"layers_per_block"`
	ActFn                 string   `json:"act_fn"`
	NormNumGroups         int      `json:"norm_num_groups"`
	NormEps               float64  `json:"norm_eps"`
	CrossAttentionDim     PerLevel `json:"cross_attention_dim"`
	TransformerLayers     PerLevel `json:"transformer_layers_per_block"`
	UseLinearProjection   bool     `json:"use_linear_projection"`
	TransformerLayersUp   PerLevel `json:"reverse_transformer_layers_per_block"`
	MidBlockOnlyCrossAttn bool     `json:"mid_block_only_cross_attention"`

	// Heads is the number of attention heads of each level. The published key misleads: diffusers reads attention_head_dim as a number
	// of heads unless num_attention_heads is given.
	Heads         PerLevel `json:"attention_head_dim"`
	HeadsOverride PerLevel `json:"num_attention_heads"`
}

// Size is the height and width of the latents that a network was trained on.
type Size [2]int

// UnmarshalJSON reads one number for both sides, or a list of the height and the width.
func (s *Size) UnmarshalJSON(data []byte) error {
	var list PerLevel
	if err := json.Unmarshal(data, &list); err != nil || len(list) < 1 || len(list) > 2 {
		return fmt.Errorf("sample_size: %s is neither a number nor a pair", data)
	}
	s[0], s[1] = list[0], list[len(list)-1]
	return nil
}

// MarshalJSON writes one number where both sides are equal.
func (s Size) MarshalJSON() ([]byte, error) {
	if s[0] == s[1] {
		return json.Marshal(s[0])
	}
	return json.Marshal(s[:])
}

// PerLevel is a key that holds one number for all levels or a list with one for each.
type PerLevel []int

// UnmarshalJSON reads a number or a list of numbers.
func (p *PerLevel) UnmarshalJSON(data []byte) error {
	var one int
	if json.Unmarshal(data, &one) == nil {
		*p = PerLevel{one}
		return nil
	}
	var list []int
	if err := json.Unmarshal(data, &list); err != nil {
		return fmt.Errorf("%s: neither a number nor a list of numbers", data)
	}
	*p = list
	return nil
}

// MarshalJSON writes one number where all levels share it.
func (p PerLevel) MarshalJSON() ([]byte, error) {
	switch len(p) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(p[0])
	}
	return json.Marshal([]int(p))
}

func (p PerLevel) at(i int) int {
	if len(p) == 1 {
		return p[0]
	}
	return p[i]
}

// fixed lists the keys of features that diffusers has and this network does not, with the value that switches each off.
var fixed = map[string]string{
	"downsample_padding": "1", "mid_block_scale_factor": "1", "dropout": config.Any, "only_cross_attention": "false",
	"dual_cross_attention": "false", "upcast_attention": config.Any, "resnet_time_scale_shift": `"default"`,
	"resnet_skip_time_act": "false", "resnet_out_scale_factor": "1.0", "time_embedding_type": `"positional"`,
	"conv_in_kernel": "3", "conv_out_kernel": "3", "attention_type": `"default"`, "class_embeddings_concat": "false",
	"addition_embed_type_num_heads": config.Any,
}

// Default holds the values that diffusers assumes for absent keys.
func Default() Config {
	return Config{InChannels: 4, OutChannels: 4, FlipSinToCos: true, MidBlockType: "UNetMidBlock2DCrossAttn",
		DownBlockTypes:   []string{"CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"},
		UpBlockTypes:     []string{"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"},
		BlockOutChannels: []int{320, 640, 1280, 1280}, LayersPerBlock: PerLevel{2}, ActFn: "silu", NormNumGroups: 32, NormEps: 1e-5,
		CrossAttentionDim: PerLevel{1280}, TransformerLayers: PerLevel{1}, Heads: PerLevel{8}}
}

// ParseConfig reads a config.json; an unknown or contradictory key is an error that names it.
func ParseConfig(data []byte) (Config, error) {
	c := Default()
	if err := config.Parse(data, "UNet2DConditionModel", &c, fixed); err != nil {
		return Config{}, err
	}
	if len(c.HeadsOverride) > 0 {
		c.Heads, c.HeadsOverride = c.HeadsOverride, nil
	}
	return c, c.check()
}

func (c Config) check() error {
	n := len(c.BlockOutChannels)
	if n == 0 || len(c.DownBlockTypes) != n || len(c.UpBlockTypes) != n {
		return fmt.Errorf("block_out_channels, down_block_types and up_block_types: %d, %d and %d entries, must be equal and not none",
			n, len(c.DownBlockTypes), len(c.UpBlockTypes))
	}
	levels := map[string]PerLevel{"layers_per_block": c.LayersPerBlock, "cross_attention_dim": c.CrossAttentionDim,
		"transformer_layers_per_block": c.TransformerLayers, "attention_head_dim": c.Heads}
	for key, p := range levels {
		if len(p) != 1 && len(p) != n {
			return fmt.Errorf("%s: %d entries for %d levels", key, len(p), n)
		}
		for _, v := range p {
			if v < 1 {
				return fmt.Errorf("%s: %d, must be positive", key, v)
			}
		}
	}
	for i, ch := range c.BlockOutChannels {
		if ch < 1 || c.NormNumGroups < 1 || ch%c.NormNumGroups != 0 {
			return fmt.Errorf("block_out_channels[%d]: %d is no multiple of norm_num_groups %d", i, ch, c.NormNumGroups)
		}
		if ch%c.Heads.at(i) != 0 {
			return fmt.Errorf("attention_head_dim: %d heads do not divide block_out_channels[%d] = %d", c.Heads.at(i), i, ch)
		}
		if t := c.DownBlockTypes[i]; t != "DownBlock2D" && t != "CrossAttnDownBlock2D" {
			return fmt.Errorf("down_block_types[%d]: %q, known are DownBlock2D and CrossAttnDownBlock2D", i, t)
		}
		if t := c.UpBlockTypes[i]; t != "UpBlock2D" && t != "CrossAttnUpBlock2D" {
			return fmt.Errorf("up_block_types[%d]: %q, known are UpBlock2D and CrossAttnUpBlock2D", i, t)
		}
	}
	switch {
	case c.MidBlockType != "UNetMidBlock2DCrossAttn":
		return fmt.Errorf("mid_block_type: %q, known is UNetMidBlock2DCrossAttn", c.MidBlockType)
	case c.CenterInputSample || c.MidBlockOnlyCrossAttn || len(c.TransformerLayersUp) > 0:
		return fmt.Errorf("center_input_sample, mid_block_only_cross_attention and reverse_transformer_layers_per_block are not supported")
	case c.ActFn != "silu":
		return fmt.Errorf("act_fn: %q, known is silu", c.ActFn)
	}
	return nil
}

// Multiple is what the sides of the latents must be multiples of.
func (c Config) Multiple() int { return 1 << (len(c.BlockOutChannels) - 1) }

// TextWidth is the width of the text states that the cross-attention of the first level reads.
func (c Config) TextWidth() int { return c.CrossAttentionDim.at(0) }

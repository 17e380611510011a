// Package unet is diffusers' UNet2DConditionModel, the denoiser of Stable Diffusion.
package unet

import (
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

	// What is embedded beside the timestep: SDXL's pooled text and sizes (addition_embed_type text_time), and the guidance scale of
	// latent consistency models; empty and 0 without.
	AdditionEmbedType    string `json:"addition_embed_type,omitempty"`
	AdditionTimeEmbedDim int    `json:"addition_time_embed_dim,omitempty"`
	ProjectionInputDim   int    `json:"projection_class_embeddings_input_dim,omitempty"`
	TimeCondProjDim      int    `json:"time_cond_proj_dim,omitempty"`

	// ImagePrompts is whether an IP-Adapter's image tokens are read too, with its weights; no config.json says so. AdapterRank is the rank
	// of the LoRA that a FaceID one brings besides; 0: none.
	ImagePrompts bool `json:"-"`
	AdapterRank  int  `json:"-"`

	// LayeredText is whether every cross-attention reads text states of its own (P+, Voynov et al. 2023); no config.json says so.
	LayeredText bool `json:"-"`

	// Edited is whether keys and values of cross-attention take gated edits (Perfusion, Tewel et al. 2023); no config.json says so.
	Edited bool `json:"-"`
}

// textTime is the one addition_embed_type there is.
const textTime = "text_time"

// TimeIDs is the count of SDXL's sizes: original height and width, top and left of the crop, target height and width, in pixels.
const TimeIDs = 6

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
	if err := checkValues(data); err != nil {
		return Config{}, fmt.Errorf("config of UNet2DConditionModel: %w", err)
	}
	c := Default()
	if err := config.Parse(data, "UNet2DConditionModel", &c, fixed); err != nil {
		return Config{}, err
	}
	if len(c.HeadsOverride) > 0 {
		c.Heads, c.HeadsOverride = c.HeadsOverride, nil
	}
	return c, c.check()
}

// Multiple is what the sides of the latents must be multiples of.
func (c Config) Multiple() int { return 1 << (len(c.BlockOutChannels) - 1) }

// TextWidth is the width of the text states that cross-attention reads.
func (c Config) TextWidth() int { return c.CrossAttentionDim.at(len(c.BlockOutChannels) - 1) }

// TextLayers is the number of cross-attentions, each of which reads text states of its own if text is layered.
func (c Config) TextLayers() int { return len(c.CrossAttentions()) }

// TextDims are those of encoder_hidden_states for rows texts of length tokens.
func (c Config) TextDims(rows, length int) []int {
	if c.LayeredText {
		return []int{rows, c.TextLayers(), length, c.TextWidth()}
	}
	return []int{rows, length, c.TextWidth()}
}

// PooledWidth is the width of text_embeds, 0 for a network that does not read them.
func (c Config) PooledWidth() int { return c.ProjectionInputDim - TimeIDs*c.AdditionTimeEmbedDim }

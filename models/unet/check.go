package unet

import (
	"fmt"
	"strings"
)

// attends tells whether a level has transformers: in its down block, its up block or, at the lowest, the mid block.
func (c Config) attends(level int) bool {
	n := len(c.BlockOutChannels)
	return level == n-1 || attends(c.DownBlockTypes[level]) || attends(c.UpBlockTypes[n-1-level])
}

func attends(block string) bool { return strings.HasPrefix(block, "CrossAttn") }

func (c Config) check() error {
	for _, check := range []func() error{c.checkSupported, c.checkBlocks, c.checkLevels, c.checkConditions} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c Config) checkSupported() error {
	switch {
	case c.CenterInputSample:
		return fmt.Errorf("center_input_sample: not supported")
	case c.MidBlockOnlyCrossAttn:
		return fmt.Errorf("mid_block_only_cross_attention: not supported")
	case len(c.TransformerLayersUp) > 0:
		return fmt.Errorf("reverse_transformer_layers_per_block: not supported")
	case c.MidBlockType != "UNetMidBlock2DCrossAttn":
		return fmt.Errorf("mid_block_type: %q, known is UNetMidBlock2DCrossAttn", c.MidBlockType)
	case c.ActFn != "silu":
		return fmt.Errorf("act_fn: %q, known is silu", c.ActFn)
	case c.InChannels < 1 || c.OutChannels < 1:
		return fmt.Errorf("in_channels and out_channels: %d and %d, must be positive", c.InChannels, c.OutChannels)
	}
	return nil
}

func (c Config) checkBlocks() error {
	n := len(c.BlockOutChannels)
	if n == 0 || len(c.DownBlockTypes) != n || len(c.UpBlockTypes) != n {
		return fmt.Errorf("block_out_channels, down_block_types and up_block_types: %d, %d and %d entries, must be equal and not none",
			n, len(c.DownBlockTypes), len(c.UpBlockTypes))
	}
	for i, ch := range c.BlockOutChannels {
		if ch < 1 || c.NormNumGroups < 1 || ch%c.NormNumGroups != 0 {
			return fmt.Errorf("block_out_channels[%d]: %d is no multiple of norm_num_groups %d", i, ch, c.NormNumGroups)
		}
		if t := c.DownBlockTypes[i]; t != "DownBlock2D" && t != "CrossAttnDownBlock2D" {
			return fmt.Errorf("down_block_types[%d]: %q, known are DownBlock2D and CrossAttnDownBlock2D", i, t)
		}
		if t := c.UpBlockTypes[i]; t != "UpBlock2D" && t != "CrossAttnUpBlock2D" {
			return fmt.Errorf("up_block_types[%d]: %q, known are UpBlock2D and CrossAttnUpBlock2D", i, t)
		}
	}
	return nil
}

// checkLevels checks the lists; what belongs to attention may be anything at a level without.
func (c Config) checkLevels() error {
	n := len(c.BlockOutChannels)
	for _, p := range []struct {
		key    string
		values PerLevel
		always bool // used at every level
	}{
		{"layers_per_block", c.LayersPerBlock, true}, {"cross_attention_dim", c.CrossAttentionDim, false},
		{"transformer_layers_per_block", c.TransformerLayers, false}, {"attention_head_dim", c.Heads, false},
	} {
		if len(p.values) != 1 && len(p.values) != n {
			return fmt.Errorf("%s: %d entries for %d levels", p.key, len(p.values), n)
		}
		for level := range n {
			if v := p.values.at(level); v < 1 && (p.always || c.attends(level)) {
				return fmt.Errorf("%s: %d, must be positive", p.key, v)
			}
		}
	}
	for level, ch := range c.BlockOutChannels {
		if !c.attends(level) {
			continue
		}
		if heads := c.Heads.at(level); ch%heads != 0 {
			return fmt.Errorf("attention_head_dim: %d heads do not divide block_out_channels[%d] = %d", heads, level, ch)
		}
		if d := c.CrossAttentionDim.at(level); d != c.TextWidth() {
			return fmt.Errorf("cross_attention_dim: level %d reads text of width %d, the last one of %d, and there is one text", level, d, c.TextWidth())
		}
	}
	return nil
}

// checkConditions checks what is embedded beside the timestep.
func (c Config) checkConditions() error {
	times := c.AdditionTimeEmbedDim
	switch c.AdditionEmbedType {
	case "":
		if times != 0 {
			return fmt.Errorf("addition_time_embed_dim: %d, but there is no addition_embed_type", times)
		}
		if c.ProjectionInputDim != 0 {
			return fmt.Errorf("projection_class_embeddings_input_dim: %d, but there is no addition_embed_type", c.ProjectionInputDim)
		}
	case textTime:
		if times < 2 || times%2 != 0 {
			return fmt.Errorf("addition_time_embed_dim: %d, must be even and positive", times)
		}
		if c.PooledWidth() < 1 {
			return fmt.Errorf("projection_class_embeddings_input_dim: %d leaves no room for text beside %d numbers of addition_time_embed_dim %d",
				c.ProjectionInputDim, TimeIDs, times)
		}
	default:
		return fmt.Errorf("addition_embed_type: %q, known is %s", c.AdditionEmbedType, textTime)
	}
	if c.TimeCondProjDim < 0 {
		return fmt.Errorf("time_cond_proj_dim: %d, must not be negative", c.TimeCondProjDim)
	}
	return nil
}

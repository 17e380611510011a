package unet

import (
	"fmt"

	"likeness/models/nn"
	"likeness/models/op"
)

// Adapter is the component that an IP-Adapter's weights of the attention are read from.
const Adapter = "ip_adapter"

// CrossAttention is one of a network's attentions to the text.
type CrossAttention struct {
	Path  string
	Width int // of its channels

	number int
}

// CrossAttentions lists a network's in the order of diffusers' attention processors, down blocks, up blocks, middle. Published
// IP-Adapters number all attentions so, and those to the image itself, which come first in each block, take the even numbers.
func (c Config) CrossAttentions() []CrossAttention {
	var all []CrossAttention
	add := func(block string, layers, level int) {
		for j := range layers {
			for k := range c.TransformerLayers.at(level) {
				path := fmt.Sprintf("%s.attentions.%d.transformer_blocks.%d.attn2", block, j, k)
				all = append(all, CrossAttention{path, c.BlockOutChannels[level], 2*len(all) + 1})
			}
		}
	}
	n := len(c.BlockOutChannels)
	for i, kind := range c.DownBlockTypes {
		if attends(kind) {
			add(fmt.Sprintf("down_blocks.%d", i), c.LayersPerBlock.at(i), i)
		}
	}
	for i, kind := range c.UpBlockTypes {
		if level := n - 1 - i; attends(kind) {
			add(fmt.Sprintf("up_blocks.%d", i), c.LayersPerBlock.at(level)+1, level)
		}
	}
	add("mid_block", 1, n-1)
	return all
}

// Key is the path of the adapter's projection of image tokens to keys, [Width, cross_attention_dim].
func (a CrossAttention) Key() string { return fmt.Sprintf("%d.to_k_ip", a.number) }

// Value is the path of the adapter's projection of image tokens to values, [Width, cross_attention_dim].
func (a CrossAttention) Value() string { return fmt.Sprintf("%d.to_v_ip", a.number) }

// images are the image prompts of one forward pass: decoupled cross-attention (IP-Adapter, Ye et al. 2023, section 3.2).
type images struct {
	tokens op.Tensor // [B·K, T, D]
	scale  op.Tensor // [B, K]
	at     map[string]CrossAttention
}

func newImages(s op.Scope, cfg Config, in Inputs) *images {
	if !cfg.ImagePrompts {
		return nil
	}
	require(s, "image_tokens", in.ImageTokens)
	require(s, "image_scale", in.ImageScale)
	m := &images{in.ImageTokens, in.ImageScale, map[string]CrossAttention{}}
	for _, a := range cfg.CrossAttentions() {
		m.at[a.Path] = a
	}
	return m
}

// knows tells whether the attention at s looks at images.
func (m *images) knows(s op.Scope) bool {
	_, ok := m.at[s.Path()]
	return ok
}

// attend is what the queries [B, N, ch] of the attention at s find in each image, times its scale, summed: [B, N, ch].
func (m *images) attend(s op.Scope, query op.Tensor, ch, contextWidth, heads int) op.Tensor {
	own, adapter := m.at[s.Path()], s.Component(Adapter)
	key := nn.Linear(adapter.At(own.Key()), m.tokens, contextWidth, ch, false)
	value := nn.Linear(adapter.At(own.Value()), m.tokens, contextWidth, ch, false)
	nothing := m.scale.Reshape(0, -1, 1, 1).Scale(0)                               // [B, K, 1, 1]
	many := query.Reshape(0, 1, -1, ch).Add(nothing).ReshapeLike(query, -1, 0, ch) // [B·K, N, ch]
	found := many.Attention(key, value, op.Tensor{}, heads, ch/heads)              // [B·K, N, ch]
	sum := m.scale.Reshape(0, 1, -1).MatMul(found.ReshapeLike(m.scale, 0, 0, -1))  // [B, 1, N·ch]
	return sum.ReshapeLike(query, 0, 0, ch)
}

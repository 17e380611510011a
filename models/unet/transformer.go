package unet

import (
	"likeness/models/nn"
	"likeness/models/op"
)

const (
	groupNormEps = 1e-6
	layerNormEps = 1e-5
)

// transformer is diffusers' Transformer2DModel over x [B, ch, H, W].
func (n network) transformer(s op.Scope, x op.Tensor, ch, level int) op.Tensor {
	return s.Block(func(xs []op.Tensor) op.Tensor {
		n := n
		n.text = xs[1]
		return n.transform(s, xs[0], ch, level)
	}, x, n.text)
}

func (n network) transform(s op.Scope, x op.Tensor, ch, level int) op.Tensor {
	h := nn.GroupNorm(s.At("norm"), x, n.NormNumGroups, ch, groupNormEps)
	if n.UseLinearProjection {
		h = nn.Linear(s.At("proj_in"), nn.Tokens(h, ch), ch, ch, true)
	} else {
		h = nn.Tokens(nn.Conv2D(s.At("proj_in"), h, ch, ch, 1, 1, 0), ch)
	}
	for i := range n.TransformerLayers.at(level) {
		h = n.block(s.Index("transformer_blocks", i), h, ch, level) // [B, HW, ch]
	}
	if n.UseLinearProjection {
		h = nn.Image(nn.Linear(s.At("proj_out"), h, ch, ch, true), x)
	} else {
		h = nn.Conv2D(s.At("proj_out"), nn.Image(h, x), ch, ch, 1, 1, 0)
	}
	return x.Add(h)
}

// block is a BasicTransformerBlock: self-attention, cross-attention, GEGLU.
func (n network) block(s op.Scope, h op.Tensor, ch, level int) op.Tensor {
	x := nn.LayerNorm(s.At("norm1"), h, ch, layerNormEps)
	h = h.Add(n.attention(s.At("attn1"), x, x, ch, ch, level))
	x = nn.LayerNorm(s.At("norm2"), h, ch, layerNormEps)
	cross := s.At("attn2")
	h = h.Add(n.attention(cross, x, n.textAt(cross), ch, n.CrossAttentionDim.at(level), level))
	x = nn.LayerNorm(s.At("norm3"), h, ch, layerNormEps)
	x = nn.Linear(s.At("ff.net.0.proj"), x, ch, 8*ch, true).GEGLU(4 * ch)
	return h.Add(nn.Linear(s.At("ff.net.2"), x, 4*ch, ch, true))
}

func (n network) attention(s op.Scope, x, context op.Tensor, ch, contextWidth, level int) op.Tensor {
	project := func(name string, x op.Tensor, in int) op.Tensor {
		layer := s.At(name)
		return n.images.change(s, name, x, nn.Linear(layer, x, in, ch, name == toOut), in, ch)
	}
	query, key, value := project("to_q", x, ch), project("to_k", context, contextWidth), project("to_v", context, contextWidth)
	heads := n.Heads.at(level)
	found := query.Attention(key, value, op.Tensor{}, heads, ch/heads)
	found = n.images.attend(s, query, found, ch, contextWidth, heads)
	return project(toOut, found, ch)
}

package clip

import (
	"likeness/models/nn"
	"likeness/models/op"
)

// layer is one pre-norm transformer layer over h [B, L, D].
func (c Config) layer(s op.Scope, h, mask op.Tensor) op.Tensor {
	d := c.HiddenSize
	x := nn.LayerNorm(s.At("layer_norm1"), h, d, c.LayerNormEps)
	a := s.At("self_attn")
	query := nn.Linear(a.At("q_proj"), x, d, d, true)
	key := nn.Linear(a.At("k_proj"), x, d, d, true)
	value := nn.Linear(a.At("v_proj"), x, d, d, true)
	h = h.Add(nn.Linear(a.At("out_proj"), query.Attention(key, value, mask, c.NumHeads, d/c.NumHeads), d, d, true))
	x = nn.LayerNorm(s.At("layer_norm2"), h, d, c.LayerNormEps)
	m := s.At("mlp")
	x = nn.Activation(m, c.HiddenAct, nn.Linear(m.At("fc1"), x, d, c.IntermediateSize, true))
	return h.Add(nn.Linear(m.At("fc2"), x, c.IntermediateSize, d, true))
}

// Vision is the model pixel_values [B, C, image_size, image_size] → last_hidden_state and penultimate [B, 1 + patches, hidden_size] and
// image_embeds [B, projection_dim].
func Vision(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		x := s.Input("pixel_values", op.Float32, -1, cfg.NumChannels, cfg.ImageSize, cfg.ImageSize)
		out := VisionForward(s, cfg, x)
		return map[string]op.Tensor{"last_hidden_state": out.Last, "penultimate": out.Penultimate, "image_embeds": out.Embeds}
	}
}

// VisionOutputs are the states of the vision transformer, the class token's first.
type VisionOutputs struct {
	Last        op.Tensor // [B, 1 + patches, D], without a final norm
	Penultimate op.Tensor // [B, 1 + patches, D], what the last layer reads
	Embeds      op.Tensor // [B, projection_dim], the class token's last state, normalised and projected
}

// VisionForward encodes pixels [B, C, image_size, image_size].
func VisionForward(s op.Scope, cfg Config, pixels op.Tensor) VisionOutputs {
	v, d, p := s.At("vision_model"), cfg.HiddenSize, cfg.PatchSize
	e := v.At("embeddings")
	patches := pixels.Conv2D(e.At("patch_embedding").Weight("weight", d, cfg.NumChannels, p, p), op.Tensor{}, p, 0)
	h := nn.Tokens(patches, d) // [B, patches, D]
	class := e.Weight("class_embedding", d).Reshape(1, 1, d)
	side := cfg.ImageSize / p
	h = class.Expand(h.Slice(1, 0, 1)).Concat(1, h)
	h = h.Add(e.At("position_embedding").Weight("weight", side*side+1, d))
	h = nn.LayerNorm(v.At("pre_layrnorm"), h, d, cfg.LayerNormEps)
	var out VisionOutputs
	for i := range cfg.NumHiddenLayers {
		out.Penultimate = h
		h = cfg.layer(v.At("encoder").Index("layers", i), h, op.Tensor{})
	}
	out.Last = h
	class = h.Slice(1, 0, 1).Reshape(0, d) // [B, D]
	class = nn.LayerNorm(v.At("post_layernorm"), class, d, cfg.LayerNormEps)
	out.Embeds = class.Linear(s.At("visual_projection").Weight("weight", cfg.ProjectionDim, d), op.Tensor{})
	return out
}

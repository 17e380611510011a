package clip

import (
	"math"

	"likeness/models/nn"
	"likeness/models/op"
)

// Text is the model input_ids [B, L] → last_hidden_state and penultimate [B, L, hidden_size], pooler_output [B, hidden_size],
// with L = max_position_embeddings. It also reads concept_embeddings [B, L, hidden_size], which are added to the token embeddings:
// at a concept's places the id is its class word's, and what is added is the concept's difference to that word; zeros elsewhere.
func Text(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		length := cfg.MaxPositionEmbeddings
		ids := s.Input("input_ids", op.Int64, -1, length)
		residual := s.Input("concept_embeddings", op.Float32, -1, length, cfg.HiddenSize)
		out := TextForward(s, cfg, ids, residual)
		return map[string]op.Tensor{"last_hidden_state": out.Last, "penultimate": out.Penultimate, "pooler_output": out.Pooled}
	}
}

// TextOutputs are the states of the text transformer.
type TextOutputs struct {
	Last        op.Tensor // [B, L, D], after the final norm
	Penultimate op.Tensor // [B, L, D], what the last layer reads
	Pooled      op.Tensor // [B, D], Last at the end-of-text token
}

// TextForward encodes ids [B, L]; residual [B, L, D] is added to the token embeddings.
func TextForward(s op.Scope, cfg Config, ids, residual op.Tensor) TextOutputs {
	t, d, length := s.At("text_model"), cfg.HiddenSize, cfg.MaxPositionEmbeddings
	e := t.At("embeddings")
	h := e.At("token_embedding").Weight("weight", cfg.VocabSize, d).Gather(ids).Add(residual)
	h = h.Add(e.At("position_embedding").Weight("weight", length, d))
	mask := causalMask(s, length)
	var before op.Tensor
	for i := range cfg.NumHiddenLayers {
		before = h
		h = cfg.layer(t.At("encoder").Index("layers", i), h, mask)
	}
	last := nn.LayerNorm(t.At("final_layer_norm"), h, d, cfg.LayerNormEps)
	return TextOutputs{Last: last, Penultimate: before, Pooled: cfg.pool(s, ids, last)}
}

// pool takes the state at the first end-of-text token. Configurations of old transformers releases give eos_token_id 2 for any
// vocabulary; there the end of text is the largest id.
func (c Config) pool(s op.Scope, ids, last op.Tensor) op.Tensor {
	score := ids.Cast(op.Float32)
	if c.EOSTokenID != 2 {
		score = score.Equal(s.Const([]float32{float32(c.EOSTokenID)})).Cast(op.Float32)
	}
	places := make([]float32, c.MaxPositionEmbeddings)
	for i := range places {
		places[i] = float32(i)
	}
	at := score.ArgMax(1).Cast(op.Float32).Reshape(-1, 1) // [B, 1]
	pick := at.Equal(s.Const(places, 1, len(places))).Cast(op.Float32)
	return pick.Reshape(0, 1, len(places)).MatMul(last).Reshape(-1, c.HiddenSize)
}

// causalMask is additive [1, 1, L, L]. Its minimum is finite, so that no kernel meets inf - inf.
func causalMask(s op.Scope, length int) op.Tensor {
	mask := make([]float32, length*length)
	for i := range length {
		for j := i + 1; j < length; j++ {
			mask[i*length+j] = -math.MaxFloat32 / 2
		}
	}
	return s.Const(mask, 1, 1, length, length)
}

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

// Vision is the model pixel_values [B, C, image_size, image_size] → last_hidden_state [B, 1 + patches, hidden_size] and
// image_embeds [B, projection_dim].
func Vision(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		x := s.Input("pixel_values", op.Float32, -1, cfg.NumChannels, cfg.ImageSize, cfg.ImageSize)
		last, embeds := VisionForward(s, cfg, x)
		return map[string]op.Tensor{"last_hidden_state": last, "image_embeds": embeds}
	}
}

// VisionForward returns the states of all patches, the class token first, and the projected class token.
func VisionForward(s op.Scope, cfg Config, pixels op.Tensor) (last, embeds op.Tensor) {
	v, d, p := s.At("vision_model"), cfg.HiddenSize, cfg.PatchSize
	e := v.At("embeddings")
	patches := pixels.Conv2D(e.At("patch_embedding").Weight("weight", d, cfg.NumChannels, p, p), op.Tensor{}, p, 0)
	h := nn.Tokens(patches, d) // [B, patches, D]
	class := e.Weight("class_embedding", d).Reshape(1, 1, d)
	side := cfg.ImageSize / p
	h = class.Expand(h.Slice(1, 0, 1)).Concat(1, h)
	h = h.Add(e.At("position_embedding").Weight("weight", side*side+1, d))
	h = nn.LayerNorm(v.At("pre_layrnorm"), h, d, cfg.LayerNormEps)
	for i := range cfg.NumHiddenLayers {
		h = cfg.layer(v.At("encoder").Index("layers", i), h, op.Tensor{})
	}
	class = h.Slice(1, 0, 1).Reshape(0, d) // [B, D]
	class = nn.LayerNorm(v.At("post_layernorm"), class, d, cfg.LayerNormEps)
	embeds = class.Linear(s.At("visual_projection").Weight("weight", cfg.ProjectionDim, d), op.Tensor{})
	return h, embeds
}

package clip

import (
	"math"

	"likeness/models/nn"
	"likeness/models/op"
)

// Text is the model input_ids [B, L] → last_hidden_state and penultimate [B, L, hidden_size], pooler_output [B, hidden_size] and, with
// a projection, text_embeds [B, projection_dim], with L = max_position_embeddings. It also reads concept_embeddings [B, L, hidden_size],
// which are added to the token embeddings: at a concept's places the id is its class word's, and what is added is the concept's
// difference to that word; zeros elsewhere.
func Text(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		ids, residual := textInputs(s, cfg)
		out := TextForward(s, cfg, ids, residual)
		outputs := map[string]op.Tensor{"last_hidden_state": out.Last, "penultimate": out.Penultimate, "pooler_output": out.Pooled}
		if cfg.Projection {
			outputs["text_embeds"] = out.Embeds
		}
		return outputs
	}
}

// Selection says which states a pipeline reads from a text encoder. StableDiffusionPipeline reads {Skip: clip_skip, Norm: true};
// StableDiffusionXLPipeline {Skip: 1 + clip_skip} from both encoders, and from the second Pooled.
type Selection struct {
	Skip   int  // how many of the last layers are passed over: 0 is hidden_states[-1], 1 the penultimate, up to all layers
	Norm   bool // through the final norm
	Pooled bool // also the pooled state of the whole encoder
}

// Select is the model of the same inputs as [Text] → encoder_hidden_states [B, L, hidden_size] and, if Pooled, text_embeds
// [B, projection_dim] or, without a projection, pooler_output [B, hidden_size]. Layers that the selection does not need are not
// computed and their weights not read, so a checkpoint is to be checked against Text.
func Select(cfg Config, want Selection) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		if want.Skip < 0 || want.Skip > cfg.NumHiddenLayers {
			s.Fail("clip_skip passes over %d of num_hidden_layers %d", want.Skip, cfg.NumHiddenLayers)
		}
		ids, residual := textInputs(s, cfg)
		count := cfg.NumHiddenLayers - want.Skip
		needed := count
		if want.Pooled {
			needed = cfg.NumHiddenLayers
		}
		states := cfg.states(s, ids, residual, needed)
		outputs := map[string]op.Tensor{"encoder_hidden_states": states[count]}
		if want.Norm {
			outputs["encoder_hidden_states"] = cfg.finalNorm(s, states[count])
		}
		if want.Pooled {
			name, pooled := "pooler_output", cfg.pool(s, ids, cfg.finalNorm(s, states[needed]))
			if cfg.Projection {
				name, pooled = "text_embeds", cfg.project(s, pooled)
			}
			outputs[name] = pooled
		}
		return outputs
	}
}

func textInputs(s op.Scope, cfg Config) (ids, residual op.Tensor) {
	length := cfg.MaxPositionEmbeddings
	return s.Input("input_ids", op.Int64, -1, length), s.Input("concept_embeddings", op.Float32, -1, length, cfg.HiddenSize)
}

// TextOutputs are the states of the text transformer.
type TextOutputs struct {
	Last        op.Tensor // [B, L, D], after the final norm
	Penultimate op.Tensor // [B, L, D], what the last layer reads
	Pooled      op.Tensor // [B, D], Last at the end-of-text token
	Embeds      op.Tensor // [B, projection_dim], Pooled projected; the zero Tensor without a projection
}

// TextForward encodes ids [B, L]; residual [B, L, D] is added to the token embeddings.
func TextForward(s op.Scope, cfg Config, ids, residual op.Tensor) TextOutputs {
	n := cfg.NumHiddenLayers
	states := cfg.states(s, ids, residual, n)
	last := cfg.finalNorm(s, states[n])
	out := TextOutputs{Last: last, Penultimate: states[n-1], Pooled: cfg.pool(s, ids, last)}
	if cfg.Projection {
		out.Embeds = cfg.project(s, out.Pooled)
	}
	return out
}

// states returns the embeddings and the outputs of the first count layers, [B, L, D] each: transformers' hidden_states.
func (c Config) states(s op.Scope, ids, residual op.Tensor, count int) []op.Tensor {
	t, d, length := s.At("text_model"), c.HiddenSize, c.MaxPositionEmbeddings
	e := t.At("embeddings")
	h := e.At("token_embedding").Weight("weight", c.VocabSize, d).Gather(ids).Add(residual)
	h = h.Add(e.At("position_embedding").Weight("weight", length, d))
	states, mask := []op.Tensor{h}, causalMask(s, length)
	for i := range count {
		h = c.layer(t.At("encoder").Index("layers", i), h, mask)
		states = append(states, h)
	}
	return states
}

func (c Config) finalNorm(s op.Scope, h op.Tensor) op.Tensor {
	return nn.LayerNorm(s.At("text_model", "final_layer_norm"), h, c.HiddenSize, c.LayerNormEps)
}

func (c Config) project(s op.Scope, pooled op.Tensor) op.Tensor {
	return pooled.Linear(s.At("text_projection").Weight("weight", c.ProjectionDim, c.HiddenSize), op.Tensor{})
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

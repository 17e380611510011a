package encoder

import (
	"likeness/models/nn"
	"likeness/models/op"
)

const eps = 1e-5

// Network is the model photos [B, P, 3, S, S] in -1..1, P photos of one person each → word_embeddings [B, num_vectors, cross_attention_dim],
// the difference to the class word's, and coefficients [B, targets·num_coefficients] over the basis, target by target.
func Network(cfg Config, layout *op.Layout) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		photos := s.Input("photos", op.Float32, -1, -1, 3, cfg.ImageSize, cfg.ImageSize)
		words, coefficients := Heads(s, cfg, layout, Summary(s, cfg, photos))
		return map[string]op.Tensor{"word_embeddings": words, "coefficients": coefficients}
	}
}

// Summary is what the encoder sees in photos [B, P, 3, S, S] of one person each: [B, hidden_size].
func Summary(s op.Scope, cfg Config, photos op.Tensor) op.Tensor {
	places := cfg.trunk(s.At("trunk"), photos.Reshape(-1, 3, cfg.ImageSize, cfg.ImageSize)) // [B·P, places, width]
	width := cfg.width()
	places = places.Add(s.Weight("position_embedding.weight", cfg.places(), width))
	h := places.ReshapeLike(photos, 0, -1, width) // [B, P·places, width]
	for i := range cfg.NumLayers {
		h = cfg.layer(s.Index("layers", i), h)
	}
	h = nn.LayerNorm(s.At("norm"), h, width, eps)
	return cfg.summary(s.At("summary"), h)
}

// Heads turns a summary [B, hidden_size] into a concept.
func Heads(s op.Scope, cfg Config, layout *op.Layout, h op.Tensor) (words, coefficients op.Tensor) {
	words = nn.Linear(s.At("word_head"), h, cfg.HiddenSize, cfg.NumVectors*cfg.TextWidth, true)
	coefficients = nn.Linear(s.At("coefficient_head"), h, cfg.HiddenSize, len(layout.Targets())*cfg.NumCoefficients, true)
	return words.Reshape(-1, cfg.NumVectors, cfg.TextWidth), coefficients
}

// trunk cuts photos into patches and halves the size at every level after the first: [N, 3, S, S] → [N, places, width].
func (c Config) trunk(s op.Scope, x op.Tensor) op.Tensor {
	in := 3
	for i, out := range c.BlockOutChannels {
		b := s.Index("blocks", i)
		if i == 0 {
			x = nn.Conv2D(b.At("patch"), x, in, out, c.PatchSize, c.PatchSize, 0)
		} else {
			x = nn.Conv2D(b.At("downsample"), x, in, out, 3, 2, 1)
		}
		x = nn.Resnet{In: out, Out: out, Groups: c.NormNumGroups, Eps: eps}.Forward(b.At("resnet"), x, op.Tensor{})
		in = out
	}
	return nn.Tokens(x, in)
}

// layer is a pre-norm transformer layer over all places of all photos of a person, which is where the photos are read together.
func (c Config) layer(s op.Scope, h op.Tensor) op.Tensor {
	w := c.width()
	x := nn.LayerNorm(s.At("norm1"), h, w, eps)
	h = h.Add(c.attention(s.At("attn"), x, x))
	x = nn.LayerNorm(s.At("norm2"), h, w, eps)
	return h.Add(nn.Linear(s.At("fc2"), nn.Linear(s.At("fc1"), x, w, 4*w, true).GELU(), 4*w, w, true))
}

func (c Config) attention(s op.Scope, x, context op.Tensor) op.Tensor {
	w := c.width()
	query := nn.Linear(s.At("to_q"), x, w, w, false)
	key := nn.Linear(s.At("to_k"), context, w, w, false)
	value := nn.Linear(s.At("to_v"), context, w, w, false)
	return nn.Linear(s.At("to_out.0"), query.Attention(key, value, op.Tensor{}, c.NumHeads, w/c.NumHeads), w, w, true)
}

// summary lets learned queries attend to the places [B, N, width] and maps what they find to [B, hidden].
func (c Config) summary(s op.Scope, h op.Tensor) op.Tensor {
	w := c.width()
	first := h.Slice(1, 0, 1) // [B, 1, width]: lends its batch size
	queries := s.Weight("query_embedding.weight", c.NumQueries, w).Reshape(1, c.NumQueries, w).Add(first.Scale(0))
	x := c.attention(s.At("attn"), queries, h).Reshape(0, c.NumQueries*w)
	return nn.Linear(s.At("proj"), x, c.NumQueries*w, c.HiddenSize, true).SiLU()
}

// Names of the basis's weights under a target's path.
const (
	downName = "down"  // [rank, in]
	upName   = "basis" // [num_coefficients, rank·out]
)

// Offsets expands coefficients [B, targets·num_coefficients] over the learned basis to packed offsets [B, 1, layout.Size()]: the down half
// of a target is the same for all concepts, the up half is a combination of num_coefficients matrices. The product is linear in the
// coefficients, so that a concept's strength is a factor on its up halves.
func Offsets(s op.Scope, cfg Config, layout *op.Layout, coefficients op.Tensor) op.Tensor {
	s = s.At("basis")
	k := cfg.NumCoefficients
	batch := coefficients.Slice(1, 0, 1).Scale(0) // [B, 1], zeros
	var parts []op.Tensor
	for i, t := range layout.Targets() {
		b := s.At(t.Path)
		down := b.Weight(downName, cfg.Rank, t.In).Reshape(1, cfg.Rank*t.In).Add(batch)
		up := coefficients.Slice(1, i*k, (i+1)*k).MatMul(b.Weight(upName, k, cfg.Rank*t.Out))
		parts = append(parts, down, up)
	}
	return parts[0].Concat(1, parts[1:]...).Reshape(0, 1, layout.Size())
}

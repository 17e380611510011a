package encoder

import (
	"slices"

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

// Summary is what the encoder sees in photos [B, P, 3, S, S] of one person each: [B, hidden_size]. Photos of a person are read together: what
// they show at each place is averaged. The places stay apart, since faces are aligned and a face is where things are.
func Summary(s op.Scope, cfg Config, photos op.Tensor) op.Tensor {
	width, places := cfg.width(), cfg.places()
	h := cfg.trunk(s.At("trunk"), photos.Reshape(-1, 3, cfg.ImageSize, cfg.ImageSize)) // [B·P, places, width]
	h = nn.LayerNorm(s.At("norm"), h, width, eps)
	h = h.ReshapeLike(photos, 0, 0, places, width).Mean(1)
	h = nn.Linear(s.At("summary.narrow"), h, width, cfg.PlaceChannels, true).Reshape(0, places*cfg.PlaceChannels)
	return nn.Linear(s.At("summary.proj"), h, places*cfg.PlaceChannels, cfg.HiddenSize, true).SiLU()
}

// Heads turns a summary [B, hidden_size] into a concept.
func Heads(s op.Scope, cfg Config, layout *op.Layout, h op.Tensor) (words, coefficients op.Tensor) {
	h = nn.Linear(s.At("mapper"), h, cfg.HiddenSize, cfg.HiddenSize, true).SiLU()
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

// Names of the basis's weights under a target's path.
const (
	downName = "down"  // [rank, in]
	upName   = "basis" // [num_coefficients, rank·out]
)

// Offsets expands coefficients [B, targets·num_coefficients] over the learned basis to packed offsets [B, 1, layout.Size()]: the down half
// of a target is the same for all concepts, the up half is a combination of num_coefficients matrices. The product is linear in the
// coefficients, so that a concept's strength is a factor on its up halves.
func Offsets(s op.Scope, cfg Config, layout *op.Layout, coefficients op.Tensor) op.Tensor {
	batch := coefficients.Slice(1, 0, 1).Scale(0) // [B, 1], zeros
	var parts []op.Tensor
	for i, t := range layout.Targets() {
		down, up := cfg.target(s, t, coefficients, i)
		parts = append(parts, down.Reshape(1, cfg.Rank*t.In).Add(batch), up)
	}
	return parts[0].Concat(1, parts[1:]...).Reshape(0, 1, layout.Size())
}

// Deltas are the changes that [Offsets] packs, without the packing: all samples share the down halves.
func Deltas(s op.Scope, cfg Config, layout *op.Layout, coefficients op.Tensor) op.Deltas {
	targets := layout.Targets()
	return func(path string, in, out int) (down, up op.Tensor, ok bool) {
		i := slices.IndexFunc(targets, func(t op.Target) bool { return t.Path == path })
		if i < 0 {
			return op.Tensor{}, op.Tensor{}, false
		}
		down, up = cfg.target(s, targets[i], coefficients, i)
		return down.Transpose(1, 0), up.Reshape(0, cfg.Rank, out), true
	}
}

// target returns the halves of the i-th target: down [rank, in] and up [B, rank·out].
func (c Config) target(s op.Scope, t op.Target, coefficients op.Tensor, i int) (down, up op.Tensor) {
	s = s.At("basis").At(t.Path)
	k := c.NumCoefficients
	up = coefficients.Slice(1, i*k, (i+1)*k).MatMul(s.Weight(upName, k, c.Rank*t.Out))
	return s.Weight(downName, c.Rank, t.In), up
}

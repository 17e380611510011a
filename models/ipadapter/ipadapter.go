package ipadapter

import (
	"likeness/models/clip"
	"likeness/models/nn"
	"likeness/models/op"
)

const eps = 1e-5

// Components that the weights of [Network] are named below.
const (
	ImageEncoder = "image_encoder"
	ImageProj    = "image_proj"
)

// Network is the model pixel_values [B, 3, image_size, image_size] → image_tokens [B, T, text width]. Under guidance the unconditional row
// attends to blank tokens: those of pixel values that are all zero or, for Base alone, of image_embeds that are, which do not depend on the
// picture and are the second output, blank_tokens. Adapters of the kind Face see with [Faces].
func Network(cfg Config, vision clip.Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		pixels := s.Input("pixel_values", op.Float32, -1, vision.NumChannels, vision.ImageSize, vision.ImageSize)
		seen := clip.VisionForward(s.Component(ImageEncoder), vision, pixels)
		p := s.Component(ImageProj)
		switch cfg.Kind {
		case Base:
			return map[string]op.Tensor{"image_tokens": cfg.linear(p, seen.Embeds), "blank_tokens": cfg.linear(p, seen.Embeds.Scale(0))}
		case Full:
			return map[string]op.Tensor{"image_tokens": cfg.perPatch(p, seen.Penultimate)}
		}
		return map[string]op.Tensor{"image_tokens": cfg.resample(p, seen.Penultimate)}
	}
}

// Faces is the model face_embeds [B, image width], a face recogniser's vectors of length 1 → image_tokens [B, T, text width], of the kind Face.
// Blank tokens are those of a vector of zeros.
func Faces(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		p, x := s.Component(ImageProj), s.Input("face_embeds", op.Float32, -1, cfg.ImageWidth)
		x = nn.Linear(p.At("proj.0"), x, cfg.ImageWidth, cfg.Inner, true).GELU()
		x = nn.Linear(p.At("proj.2"), x, cfg.Inner, cfg.Queries*cfg.TextWidth, true).Reshape(-1, cfg.Queries, cfg.TextWidth)
		return map[string]op.Tensor{"image_tokens": nn.LayerNorm(p.At("norm"), x, cfg.TextWidth, eps)}
	}
}

// linear is diffusers' ImageProjection of embeds [B, E].
func (c Config) linear(s op.Scope, embeds op.Tensor) op.Tensor {
	tokens := nn.Linear(s.At("proj"), embeds, c.ImageWidth, baseTokens*c.TextWidth, true)
	return nn.LayerNorm(s.At("norm"), tokens.Reshape(-1, baseTokens, c.TextWidth), c.TextWidth, eps)
}

// perPatch is diffusers' IPAdapterFullImageProjection of x [B, N, E].
func (c Config) perPatch(s op.Scope, x op.Tensor) op.Tensor {
	x = nn.Linear(s.At("proj.0"), x, c.ImageWidth, c.ImageWidth, true).GELU()
	return nn.LayerNorm(s.At("proj.3"), nn.Linear(s.At("proj.2"), x, c.ImageWidth, c.TextWidth, true), c.TextWidth, eps)
}

// resample lets learned queries attend to x [B, N, E] and to themselves (Perceiver, Jaegle et al. 2021, as in Flamingo).
func (c Config) resample(s op.Scope, x op.Tensor) op.Tensor {
	w := c.Width
	x = nn.Linear(s.At("proj_in"), x, c.ImageWidth, w, true)
	first := x.Slice(1, 0, 1) // [B, 1, W]: lends its batch size
	h := s.Weight("latents", 1, c.Queries, w).Add(first.Scale(0))
	for i := range c.Layers {
		h = c.layer(s.Index("layers", i), x, h)
	}
	return nn.LayerNorm(s.At("norm_out"), nn.Linear(s.At("proj_out"), h, w, c.TextWidth, true), c.TextWidth, eps)
}

func (c Config) layer(s op.Scope, x, h op.Tensor) op.Tensor {
	w, inner := c.Width, c.Heads*headDim
	a, f := s.At("0"), s.At("1")
	latents := nn.LayerNorm(a.At("norm2"), h, w, eps)
	all := nn.LayerNorm(a.At("norm1"), x, w, eps).Concat(1, latents)
	both := nn.Linear(a.At("to_kv"), all, w, 2*inner, false).Chunk(2, 2, inner)
	found := nn.Linear(a.At("to_q"), latents, w, inner, false).Attention(both[0], both[1], op.Tensor{}, c.Heads, headDim)
	h = h.Add(nn.Linear(a.At("to_out"), found, inner, w, false))
	y := nn.Linear(f.At("1"), nn.LayerNorm(f.At("0"), h, w, eps), w, c.Inner, false).GELU()
	return h.Add(nn.Linear(f.At("3"), y, c.Inner, w, false))
}

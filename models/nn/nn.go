// Package nn holds the layers that several networks share, written over [op]. Weight names are PyTorch's.
package nn

import (
	"math"

	"likeness/models/op"
)

// Linear is x·weightᵀ + bias over the last axis, [out, in]. Where the scope has a low-rank change of this
// module, it is added: y += (x · down) · up; and so is what the scope's edits give.
func Linear(s op.Scope, x op.Tensor, in, out int, bias bool) op.Tensor {
	var b op.Tensor
	if bias {
		b = s.Weight("bias", out)
	}
	w := s.Weight("weight", out, in)
	var y op.Tensor
	if down, up, ok := s.Delta(in, out); ok {
		y = x.LoRALinear(w, b, down, up)
	} else {
		y = x.Linear(w, b)
	}
	if change, ok := s.Edit(x, out); ok {
		y = y.Add(change)
	}
	return y
}

// Conv2D is a square convolution with a bias. One of 1×1 is a linear layer over the channels, and takes changes as Linear does.
func Conv2D(s op.Scope, x op.Tensor, in, out, kernel, stride, padding int) op.Tensor {
	y := x.Conv2D(s.Weight("weight", out, in, kernel, kernel), s.Weight("bias", out), stride, padding)
	if kernel > 1 || stride > 1 {
		return y
	}
	if down, up, ok := s.Delta(in, out); ok {
		y = y.Add(Image(Tokens(x, in).MatMul(down).MatMul(up), y))
	}
	return y
}

// Upsample is diffusers' Upsample2D: height and width doubled, nearest neighbour, then a 3×3 convolution with a bias.
func Upsample(s op.Scope, x op.Tensor, channels int) op.Tensor {
	return x.UpsampleConv2D(s.Weight("weight", channels, channels, 3, 3), s.Weight("bias", channels))
}

// GroupNorm normalises [B, channels, ...] over groups of channels.
func GroupNorm(s op.Scope, x op.Tensor, groups, channels int, eps float64) op.Tensor {
	return x.GroupNorm(groups, s.Weight("weight", channels), s.Weight("bias", channels), eps)
}

// LayerNorm normalises over the last axis, of size width.
func LayerNorm(s op.Scope, x op.Tensor, width int, eps float64) op.Tensor {
	return x.LayerNorm(s.Weight("weight", width), s.Weight("bias", width), eps)
}

// TimestepEmbedding is the sinusoidal embedding of timestep [B] as diffusers' Timesteps makes it: [B, width], cosines first when flip.
// Frequency i is 10000^(-i / (half - shift)).
func TimestepEmbedding(s op.Scope, timestep op.Tensor, width int, flip bool, shift float64) op.Tensor {
	half := width / 2
	freqs := make([]float32, half)
	for i := range freqs {
		freqs[i] = float32(math.Exp(-math.Log(10000) * float64(i) / (float64(half) - shift)))
	}
	angle := timestep.Reshape(-1, 1).Mul(s.Const(freqs, 1, half)) // [B, half]
	if flip {
		return angle.Cos().Concat(1, angle.Sin())
	}
	return angle.Sin().Concat(1, angle.Cos())
}

// Resnet is diffusers' ResnetBlock2D: two normalised 3×3 convolutions and a residual, with an optional time embedding added between them.
type Resnet struct {
	In, Out   int
	Groups    int
	Eps       float64
	TimeWidth int // width of the time embedding; 0: none
}

// Forward reads x [B, In, H, W] and temb [B, TimeWidth] and returns [B, Out, H, W].
func (r Resnet) Forward(s op.Scope, x, temb op.Tensor) op.Tensor {
	h := GroupNorm(s.At("norm1"), x, r.Groups, r.In, r.Eps).SiLU()
	h = Conv2D(s.At("conv1"), h, r.In, r.Out, 3, 1, 1)
	if r.TimeWidth > 0 {
		t := Linear(s.At("time_emb_proj"), temb.SiLU().Reshape(0, 1, r.TimeWidth), r.TimeWidth, r.Out, true) // [B, 1, Out]
		h = h.Add(t.Reshape(0, r.Out, 1, 1))
	}
	h = GroupNorm(s.At("norm2"), h, r.Groups, r.Out, r.Eps).SiLU()
	h = Conv2D(s.At("conv2"), h, r.Out, r.Out, 3, 1, 1)
	if r.In != r.Out {
		x = Conv2D(s.At("conv_shortcut"), x, r.In, r.Out, 1, 1, 0)
	}
	return x.Add(h)
}

// Tokens turns an image [B, C, H, W] into a sequence [B, H·W, C].
func Tokens(x op.Tensor, channels int) op.Tensor {
	return x.Reshape(0, channels, -1).Transpose(0, 2, 1)
}

// Image turns a sequence [B, H·W, C] back into the shape of like [B, C, H, W], which has the same number of channels.
func Image(x, like op.Tensor) op.Tensor {
	return x.Transpose(0, 2, 1).ReshapeLike(like, 0, 0, 0, 0)
}

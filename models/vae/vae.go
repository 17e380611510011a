package vae

import (
	"likeness/models/nn"
	"likeness/models/op"
)

const eps = 1e-6

// Encoder is the model pixel_values [B, in_channels, H, W] in -1..1 → latent_mean, latent_logvar [B, latent_channels, H/f, W/f], unscaled.
func Encoder(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		mean, logvar := Encode(s, cfg, s.Input("pixel_values", op.Float32, -1, cfg.InChannels, -1, -1))
		return map[string]op.Tensor{"latent_mean": mean, "latent_logvar": logvar}
	}
}

// Decoder is the model latents [B, latent_channels, h, w], unscaled → image [B, out_channels, h·f, w·f] in about -1..1.
func Decoder(cfg Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"image": Decode(s, cfg, s.Input("latents", op.Float32, -1, cfg.LatentChannels, -1, -1))}
	}
}

// Encode returns the mean and the log variance of the latents' distribution.
func Encode(s op.Scope, cfg Config, x op.Tensor) (mean, logvar op.Tensor) {
	e, ch := s.At("encoder"), cfg.BlockOutChannels
	h := nn.Conv2D(e.At("conv_in"), x, cfg.InChannels, ch[0], 3, 1, 1)
	in := ch[0]
	for i, out := range ch {
		b := e.Index("down_blocks", i)
		for j := range cfg.LayersPerBlock {
			h = cfg.resnet(in, out).Forward(b.Index("resnets", j), h, op.Tensor{})
			in = out
		}
		if i < len(ch)-1 {
			d := b.At("downsamplers.0.conv")
			h = nn.Conv2D(d, h.Pad(0, 1, 0, 1), out, out, 3, 2, 0)
		}
	}
	h = cfg.mid(e.At("mid_block"), h, in)
	h = nn.GroupNorm(e.At("conv_norm_out"), h, cfg.NormNumGroups, in, eps).SiLU()
	moments := 2 * cfg.LatentChannels
	h = nn.Conv2D(e.At("conv_out"), h, in, moments, 3, 1, 1)
	if cfg.UseQuantConv {
		h = nn.Conv2D(s.At("quant_conv"), h, moments, moments, 1, 1, 0)
	}
	parts := h.Chunk(1, 2, cfg.LatentChannels)
	return parts[0], parts[1]
}

// Decode returns the image of latents.
func Decode(s op.Scope, cfg Config, z op.Tensor) op.Tensor {
	if cfg.UsePostQuantConv {
		z = nn.Conv2D(s.At("post_quant_conv"), z, cfg.LatentChannels, cfg.LatentChannels, 1, 1, 0)
	}
	d, ch := s.At("decoder"), cfg.BlockOutChannels
	n := len(ch)
	in := ch[n-1]
	h := nn.Conv2D(d.At("conv_in"), z, cfg.LatentChannels, in, 3, 1, 1)
	h = cfg.mid(d.At("mid_block"), h, in)
	for i := range n {
		b, out := d.Index("up_blocks", i), ch[n-1-i]
		for j := range cfg.LayersPerBlock + 1 {
			h = cfg.resnet(in, out).Forward(b.Index("resnets", j), h, op.Tensor{})
			in = out
		}
		if i < n-1 {
			h = nn.Upsample(b.At("upsamplers.0.conv"), h, out)
		}
	}
	h = nn.GroupNorm(d.At("conv_norm_out"), h, cfg.NormNumGroups, in, eps).SiLU()
	return nn.Conv2D(d.At("conv_out"), h, in, cfg.OutChannels, 3, 1, 1)
}

func (c Config) resnet(in, out int) nn.Resnet {
	return nn.Resnet{In: in, Out: out, Groups: c.NormNumGroups, Eps: eps}
}

// mid is the UNetMidBlock2D: a resnet, one head of self-attention over all places, a resnet.
func (c Config) mid(s op.Scope, h op.Tensor, ch int) op.Tensor {
	h = c.resnet(ch, ch).Forward(s.Index("resnets", 0), h, op.Tensor{})
	if c.MidBlockAddAttn {
		a := s.Index("attentions", 0)
		x := nn.Tokens(nn.GroupNorm(a.At("group_norm"), h, c.NormNumGroups, ch, eps), ch) // [B, HW, C]
		query := nn.Linear(a.At("to_q"), x, ch, ch, true)
		key := nn.Linear(a.At("to_k"), x, ch, ch, true)
		value := nn.Linear(a.At("to_v"), x, ch, ch, true)
		y := query.Attention(key, value, op.Tensor{}, 1, ch)
		h = h.Add(nn.Image(nn.Linear(a.At("to_out.0"), y, ch, ch, true), h))
	}
	return c.resnet(ch, ch).Forward(s.Index("resnets", 1), h, op.Tensor{})
}

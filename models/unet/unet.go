package unet

import (
	"likeness/models/nn"
	"likeness/models/op"
)

// Inputs are what the network reads; those from the fourth on are zero Tensors where there is no use for them.
type Inputs struct {
	Sample              op.Tensor // [B, in_channels, H, W]; for inpainting noisy latents, mask and masked image, in this order
	Timestep            op.Tensor // [B], float
	EncoderHiddenStates op.Tensor // [B, L, cross_attention_dim], with layered text [B, TextLayers, L, cross_attention_dim]
	TextEmbeds          op.Tensor // [B, PooledWidth], with addition_embed_type text_time: pooled text
	TimeIDs             op.Tensor // [B, TimeIDs], with addition_embed_type text_time, float
	TimestepCond        op.Tensor // [B, time_cond_proj_dim], with that key: the embedded guidance scale
	ImageTokens         op.Tensor // [B·K, T, cross_attention_dim], with image prompts: of each row K, one after the other
	ImageScale          op.Tensor // [B, K], with image prompts: how strongly each acts; 0 is exactly none
	AdapterScale        op.Tensor // [B], with AdapterRank: how strongly the adapter's LoRA acts; 0 is exactly none
}

// New is the model sample, timestep, encoder_hidden_states → noise_pred. It also reads text_embeds and time_ids, or timestep_cond, where
// the configuration has them, image_tokens and image_scale if it has image prompts, gates and edits if it is edited, and with a layout offsets [B, K, layout.Size()].
func New(cfg Config, layout *op.Layout) op.Model {
	return model(cfg, layout, func(s op.Scope, in Inputs) map[string]op.Tensor {
		return map[string]op.Tensor{"noise_pred": Forward(s, cfg, in)}
	})
}

// model declares the inputs of a run.
func model(cfg Config, layout *op.Layout, forward func(op.Scope, Inputs) map[string]op.Tensor) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		in := Inputs{
			Sample:              s.Input("sample", op.Float32, -1, cfg.InChannels, -1, -1),
			Timestep:            s.Input("timestep", op.Float32, -1),
			EncoderHiddenStates: s.Input("encoder_hidden_states", op.Float32, cfg.TextDims(-1, -1)...),
		}
		if cfg.AdditionEmbedType == textTime {
			in.TextEmbeds = s.Input("text_embeds", op.Float32, -1, cfg.PooledWidth())
			in.TimeIDs = s.Input("time_ids", op.Float32, -1, TimeIDs)
		}
		if cfg.TimeCondProjDim > 0 {
			in.TimestepCond = s.Input("timestep_cond", op.Float32, -1, cfg.TimeCondProjDim)
		}
		if cfg.ImagePrompts {
			in.ImageTokens = s.Input("image_tokens", op.Float32, -1, -1, cfg.TextWidth())
			in.ImageScale = s.Input("image_scale", op.Float32, -1, -1)
			if cfg.AdapterRank > 0 {
				in.AdapterScale = s.Input("adapter_scale", op.Float32, -1)
			}
		}
		if cfg.Edited {
			s = withEdits(s, cfg)
		}
		if layout != nil {
			s = s.WithOffsets(layout, s.Input("offsets", op.Float32, -1, -1, layout.Size()))
		}
		return forward(s, in)
	}
}

// Forward returns the prediction [B, out_channels, H, W].
func Forward(s op.Scope, cfg Config, in Inputs) op.Tensor {
	noise, _ := forward(s, cfg, in)
	return noise
}

// forward also returns what comes to the last layer from the depth, [B, block_out_channels[0], H, W].
func forward(s op.Scope, cfg Config, in Inputs) (noise, deep op.Tensor) {
	ch := cfg.BlockOutChannels
	n := len(ch)
	net := newNetwork(s, cfg, in)
	h := net.first(s, in.Sample)
	skips, widths := []op.Tensor{h}, []int{ch[0]}
	width := ch[0]
	for i, out := range ch {
		b := s.Index("down_blocks", i)
		for j := range cfg.LayersPerBlock.at(i) {
			h = net.layer(b, j, i, cfg.DownBlockTypes[i], h, width, out)
			width = out
			skips, widths = append(skips, h), append(widths, width)
		}
		if i < n-1 {
			h = nn.Conv2D(b.At("downsamplers.0.conv"), h, out, out, 3, 2, 1)
			skips, widths = append(skips, h), append(widths, width)
		}
	}
	h = net.mid(s.At("mid_block"), h)
	for i := range n {
		b, level := s.Index("up_blocks", i), n-1-i
		out := ch[level]
		layers := cfg.LayersPerBlock.at(level) + 1
		if level == 0 {
			layers-- // the outermost
		}
		for j := range layers {
			last := len(skips) - 1
			h = net.layer(b, j, level, cfg.UpBlockTypes[i], h.Concat(1, skips[last]), width+widths[last], out)
			skips, widths, width = skips[:last], widths[:last], out
		}
		if i < n-1 {
			h = nn.Upsample(b.At("upsamplers.0.conv"), h, out)
		}
	}
	return net.outermost(s, h, skips[0]), h
}

// timeEmbedding returns [B, 4·ch], what every resnet adds.
func (c Config) timeEmbedding(s op.Scope, in Inputs) op.Tensor {
	ch := c.BlockOutChannels[0]
	t := nn.TimestepEmbedding(s, in.Timestep, ch, c.FlipSinToCos, c.FreqShift)
	e := s.At("time_embedding")
	if c.TimeCondProjDim > 0 {
		require(e, "timestep_cond", in.TimestepCond)
		t = t.Add(nn.Linear(e.At("cond_proj"), in.TimestepCond, c.TimeCondProjDim, ch, false))
	}
	t = embed(e, t, ch, 4*ch)
	if c.AdditionEmbedType != textTime {
		return t
	}
	e = s.At("add_embedding")
	require(e, "text_embeds", in.TextEmbeds)
	require(e, "time_ids", in.TimeIDs)
	width := c.AdditionTimeEmbedDim
	sizes := nn.TimestepEmbedding(s, in.TimeIDs, width, c.FlipSinToCos, c.FreqShift) // [B·TimeIDs, width]
	sizes = sizes.ReshapeLike(in.TextEmbeds, 0, TimeIDs*width)
	return t.Add(embed(e, in.TextEmbeds.Concat(1, sizes), c.ProjectionInputDim, 4*ch))
}

// embed is diffusers' TimestepEmbedding: two layers over x [B, in].
func embed(s op.Scope, x op.Tensor, in, out int) op.Tensor {
	return nn.Linear(s.At("linear_2"), nn.Linear(s.At("linear_1"), x, in, out, true).SiLU(), out, out, true)
}

func require(s op.Scope, name string, x op.Tensor) {
	if !x.Ok() {
		s.Fail("the configuration needs the input %s", name)
	}
}

// network is what every block of one forward pass shares.
type network struct {
	Config
	text op.Tensor // as EncoderHiddenStates
	temb op.Tensor // [B, 4·ch]

	textLayers map[string]int // of layered text, by the attentions' paths; nil: they share it
	images     *images        // nil: no image prompts
}

func newNetwork(s op.Scope, cfg Config, in Inputs) network {
	n := network{Config: cfg, text: in.EncoderHiddenStates, temb: cfg.timeEmbedding(s, in), images: newImages(s, cfg, in)}
	if cfg.LayeredText {
		n.textLayers = map[string]int{}
		for _, a := range cfg.CrossAttentions() {
			n.textLayers[a.Path] = a.Layer
		}
	}
	return n
}

// textAt is what the cross-attention at s reads, [B, L, D].
func (n network) textAt(s op.Scope) op.Tensor {
	if !n.LayeredText {
		return n.text
	}
	layer := n.textLayers[s.Path()]
	return n.text.Slice(1, layer, layer+1).Reshape(0, -1, n.TextWidth())
}

// resnet returns [B, out, H, W] of x [B, in, H, W].
func (n network) resnet(s op.Scope, x op.Tensor, in, out int) op.Tensor {
	r := nn.Resnet{In: in, Out: out, Groups: n.NormNumGroups, Eps: n.NormEps, TimeWidth: 4 * n.BlockOutChannels[0]}
	return s.Block(func(xs []op.Tensor) op.Tensor { return r.Forward(s, xs[0], xs[1]) }, x, n.temb)
}

// layer is resnet j of a down or up block and, where the block has them, its transformer.
func (n network) layer(b op.Scope, j, level int, kind string, h op.Tensor, in, out int) op.Tensor {
	h = n.resnet(b.Index("resnets", j), h, in, out)
	if attends(kind) {
		h = n.transformer(b.Index("attentions", j), h, out, level)
	}
	return h
}

func (n network) mid(s op.Scope, h op.Tensor) op.Tensor {
	level := len(n.BlockOutChannels) - 1
	ch := n.BlockOutChannels[level]
	h = n.resnet(s.Index("resnets", 0), h, ch, ch)
	h = n.transformer(s.Index("attentions", 0), h, ch, level)
	return n.resnet(s.Index("resnets", 1), h, ch, ch)
}

package unet

import (
	"fmt"
	"strings"

	"likeness/models/nn"
	"likeness/models/op"
)

// Adapter is the component that an IP-Adapter's weights of the attention are read from.
const Adapter = "ip_adapter"

// CrossAttention is one of a network's attentions to the text.
type CrossAttention struct {
	Path  string
	Width int // of its channels
	Layer int // in order of execution: down blocks, middle, up blocks

	number int
}

// CrossAttentions lists a network's in the order of diffusers' attention processors, down blocks, up blocks, middle. Published
// IP-Adapters number all attentions so, and those to the image itself, which come first in each block, take the even numbers.
func (c Config) CrossAttentions() []CrossAttention {
	var all []CrossAttention
	add := func(block string, layers, level int) {
		for j := range layers {
			for k := range c.TransformerLayers.at(level) {
				path := fmt.Sprintf("%s.attentions.%d.transformer_blocks.%d.attn2", block, j, k)
				all = append(all, CrossAttention{Path: path, Width: c.BlockOutChannels[level], number: 2*len(all) + 1})
			}
		}
	}
	n := len(c.BlockOutChannels)
	for i, kind := range c.DownBlockTypes {
		if attends(kind) {
			add(fmt.Sprintf("down_blocks.%d", i), c.LayersPerBlock.at(i), i)
		}
	}
	down := len(all)
	for i, kind := range c.UpBlockTypes {
		if level := n - 1 - i; attends(kind) {
			add(fmt.Sprintf("up_blocks.%d", i), c.LayersPerBlock.at(level)+1, level)
		}
	}
	up := len(all) - down
	add("mid_block", 1, n-1)
	for i := range all {
		switch middle := len(all) - down - up; {
		case i < down:
			all[i].Layer = i
		case i < down+up:
			all[i].Layer = i + middle
		default:
			all[i].Layer = i - up
		}
	}
	return all
}

// Projection is a layer that an adapter brings for the attention: its weight is [Out, In] below the component Adapter.
type Projection struct {
	Path    string
	In, Out int
}

// Adapts lists what an adapter brings for image tokens of the network's text width and, of a rank over 0, as LoRA of the attention and of the
// self-attention before it.
func (c Config) Adapts() []Projection {
	var all []Projection
	text := c.TextWidth()
	for _, a := range c.CrossAttentions() {
		all = append(all, Projection{at(a.number, keys), text, a.Width}, Projection{at(a.number, values), text, a.Width})
		for number := a.number - 1; number <= a.number && c.AdapterRank > 0; number++ {
			for _, name := range []string{"to_q", "to_k", "to_v", toOut} {
				in := a.Width
				if number == a.number && (name == "to_k" || name == "to_v") {
					in = text
				}
				down, up := changes(number, name)
				all = append(all, Projection{down, in, c.AdapterRank}, Projection{up, c.AdapterRank, a.Width})
			}
		}
	}
	return all
}

// Names of an adapter's projections of image tokens, and of an attention's last layer.
const (
	keys   = "to_k_ip"
	values = "to_v_ip"
	toOut  = "to_out.0"
)

// at is the path of a layer that an adapter brings for the attention of the number.
func at(number int, name string) string { return fmt.Sprintf("%d.%s", number, name) }

// changes are the paths of the two halves of an adapter's LoRA on an attention's layer.
func changes(number int, name string) (down, up string) {
	lora := at(number, strings.TrimSuffix(name, ".0")+"_lora")
	return lora + ".down", lora + ".up"
}

// images are the image prompts of one forward pass: decoupled cross-attention (IP-Adapter, Ye et al. 2023, section 3.2).
type images struct {
	tokens op.Tensor      // [B·K, T, D]
	scale  op.Tensor      // [B, K]
	lora   op.Tensor      // [B], or the zero Tensor
	rank   int            // of the LoRA
	number map[string]int // of the attentions, by path
}

func newImages(s op.Scope, cfg Config, in Inputs) *images {
	if !cfg.ImagePrompts {
		return nil
	}
	require(s, "image_tokens", in.ImageTokens)
	require(s, "image_scale", in.ImageScale)
	if cfg.AdapterRank > 0 {
		require(s, "adapter_scale", in.AdapterScale)
	}
	m := &images{in.ImageTokens, in.ImageScale, in.AdapterScale, cfg.AdapterRank, map[string]int{}}
	for _, a := range cfg.CrossAttentions() {
		m.number[a.Path] = a.number
		m.number[strings.TrimSuffix(a.Path, "attn2")+"attn1"] = a.number - 1
	}
	return m
}

// change adds the adapter's LoRA to y, what the named layer of the attention at s makes of x; nil has none.
func (m *images) change(s op.Scope, name string, x, y op.Tensor, in, out int) op.Tensor {
	if m == nil || m.rank == 0 {
		return y
	}
	down, up := changes(m.number[s.Path()], name)
	adapter := s.Component(Adapter)
	d := nn.Linear(adapter.At(up), nn.Linear(adapter.At(down), x, in, m.rank, false), m.rank, out, false)
	return y.Add(d.Mul(m.lora.Reshape(-1, 1, 1)))
}

// attend adds to what the attention at s found, [B, N, ch], what its queries find in each image, times the image's scale. Self-attention
// looks at no images; nil has none.
func (m *images) attend(s op.Scope, query, found op.Tensor, ch, contextWidth, heads int) op.Tensor {
	if m == nil || m.number[s.Path()]%2 == 0 {
		return found
	}
	own, adapter := m.number[s.Path()], s.Component(Adapter)
	key := nn.Linear(adapter.At(at(own, keys)), m.tokens, contextWidth, ch, false)
	value := nn.Linear(adapter.At(at(own, values)), m.tokens, contextWidth, ch, false)
	nothing := m.scale.Reshape(0, -1, 1, 1).Scale(0)                               // [B, K, 1, 1]
	many := query.Reshape(0, 1, -1, ch).Add(nothing).ReshapeLike(query, -1, 0, ch) // [B·K, N, ch]
	seen := many.Attention(key, value, op.Tensor{}, heads, ch/heads)               // [B·K, N, ch]
	sum := m.scale.Reshape(0, 1, -1).MatMul(seen.ReshapeLike(m.scale, 0, 0, -1))   // [B, 1, N·ch]
	return found.Add(sum.ReshapeLike(query, 0, 0, ch))
}

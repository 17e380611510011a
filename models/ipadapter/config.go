// Package ipadapter is the image side of published IP-Adapters (Ye et al. 2023, arXiv 2308.06721): CLIP's vision transformer and a projection
// of what it sees to image tokens, which the UNet attends to beside the text. The UNet's side is package unet's.
package ipadapter

import (
	"fmt"
	"slices"
	"strings"

	"likeness/models/clip"
)

// Kind is how an adapter makes image tokens.
type Kind string

// The kinds. FaceID Plus, which reads a face recogniser's vector and an image encoder's states, is not among them.
const (
	Base Kind = "IP-Adapter"           // a linear layer over image_embeds
	Plus Kind = "IP-Adapter Plus"      // a resampler over the patches' penultimate states
	Full Kind = "IP-Adapter Full Face" // a small network over each patch's penultimate state
	Face Kind = "IP-Adapter FaceID"    // a small network over a face recogniser's vector, and a LoRA of the UNet's attention
)

// Numbers of the published code that no tensor's shape tells.
const (
	baseTokens = 4
	headDim    = 64 // of the resampler
)

// Config is what the shapes of an adapter's projection tell.
type Config struct {
	Kind       Kind
	TextWidth  int // of an image token: the UNet's cross_attention_dim
	ImageWidth int // of what is projected: the image encoder's projection_dim, hidden_size for Plus and Full, a face's vector for Face

	// Plus and Face only.
	Queries int // image tokens
	Inner   int // width of the feed-forward layers

	// Plus only.
	Width  int // of the resampler
	Heads  int
	Layers int
}

// Image encoders of published adapters, by the width that a projection reads of them.
var encoders = map[Kind]map[int]string{
	Base: {768: "CLIP ViT-L/14", 1024: "OpenCLIP ViT-H/14", 1280: "OpenCLIP ViT-bigG/14"},
	Plus: {1024: "CLIP ViT-L/14", 1280: "OpenCLIP ViT-H/14", 1664: "OpenCLIP ViT-bigG/14"},
	Full: {1024: "CLIP ViT-L/14", 1280: "OpenCLIP ViT-H/14", 1664: "OpenCLIP ViT-bigG/14"},
}

// Encoder says for people which image encoder the adapter was trained with.
func (c Config) Encoder() string {
	key := "hidden_size"
	switch c.Kind {
	case Face:
		return fmt.Sprintf("a face recogniser as an ONNX file (ArcFace, 112×112 pixels) whose vectors have %d numbers", c.ImageWidth)
	case Base:
		key = "projection_dim"
	}
	needs := fmt.Sprintf("%s %d", key, c.ImageWidth)
	if name := encoders[c.Kind][c.ImageWidth]; name != "" {
		return name + ", with " + needs
	}
	return "an image encoder with " + needs
}

// ReadConfig tells the configuration by the names and shapes of the projection's tensors, published below "image_proj.". An adapter that
// cannot be used is an error that says why.
func ReadConfig(shapes map[string][]int) (Config, error) {
	has := func(name string) bool { return shapes[name] != nil }
	dim := func(name string, axis int) int {
		if shape := shapes[name]; axis < len(shape) {
			return shape[axis]
		}
		return 0
	}
	var c Config
	switch {
	case has("perceiver_resampler.proj_in.weight"):
		return c, fmt.Errorf("this is an IP-Adapter FaceID Plus, which is not supported: take FaceID, Plus or Plus Face")
	case has("proj.weight"):
		c = Config{Kind: Base, TextWidth: dim("proj.weight", 0) / baseTokens, ImageWidth: dim("proj.weight", 1)}
	case has("proj.3.weight"):
		c = Config{Kind: Full, TextWidth: dim("proj.3.weight", 0), ImageWidth: dim("proj.0.weight", 1)}
	case has("norm.weight"):
		c = Config{Kind: Face, TextWidth: dim("norm.weight", 0), ImageWidth: dim("proj.0.weight", 1), Inner: dim("proj.0.weight", 0)}
		if c.Queries = dim("proj.2.weight", 0) / max(c.TextWidth, 1); min(c.Queries, c.Inner) < 1 {
			return c, fmt.Errorf("image_proj: %d image tokens of %d inner channels: the file is not whole", c.Queries, c.Inner)
		}
	case has("latents"):
		c = Config{Kind: Plus, TextWidth: dim("proj_out.weight", 0), ImageWidth: dim("proj_in.weight", 1), Queries: dim("latents", 1),
			Width: dim("latents", 2), Heads: dim("layers.0.0.to_q.weight", 0) / headDim, Inner: dim("layers.0.1.1.weight", 0)}
		for has(fmt.Sprintf("layers.%d.0.to_q.weight", c.Layers)) {
			c.Layers++
		}
		if min(c.Queries, c.Width, c.Heads, c.Layers, c.Inner) < 1 {
			return c, fmt.Errorf("image_proj: a resampler of %d queries of width %d with %d layers of %d heads and %d inner channels: the file is not whole",
				c.Queries, c.Width, c.Layers, c.Heads, c.Inner)
		}
	default:
		return c, fmt.Errorf("image_proj: its tensors are those of no known IP-Adapter: %s", strings.Join(some(shapes), ", "))
	}
	if min(c.TextWidth, c.ImageWidth) < 1 {
		return c, fmt.Errorf("image_proj: it maps width %d to %d: the file is not whole", c.ImageWidth, c.TextWidth)
	}
	return c, nil
}

// some are the first names.
func some(shapes map[string][]int) []string {
	var names []string
	for name := range shapes {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	return names
}

// Tokens is how many image tokens one picture becomes.
func (c Config) Tokens(vision clip.Config) int {
	switch c.Kind {
	case Base:
		return baseTokens
	case Plus, Face:
		return c.Queries
	}
	side := vision.ImageSize / vision.PatchSize
	return 1 + side*side
}

// Fits holds the adapter against an image encoder.
func (c Config) Fits(vision clip.Config) error {
	width := vision.HiddenSize
	if c.Kind == Base {
		width = vision.ProjectionDim
	}
	if width != c.ImageWidth || vision.NumChannels != 3 {
		return fmt.Errorf("the image encoder gives width %d of %d colours, the adapter reads %d of 3: take the one it was trained with, %s",
			width, vision.NumChannels, c.ImageWidth, c.Encoder())
	}
	return nil
}

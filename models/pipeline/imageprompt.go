package pipeline

import (
	"errors"
	"fmt"
	"slices"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/unet"
)

// maxImages bounds the pictures of one subject: the tokens of all subjects in a run are repeated to one length, at most maxImages! pictures' long.
const maxImages = 4

// ImagePrompts lets subjects bring pictures, as tokens that an IP-Adapter's UNet attends to beside the text.
type ImagePrompts struct {
	// Attention holds the adapter's weights, by their published names below "ip_adapter."; it stays open as long as the Model.
	Attention *checkpoint.Component
	// Tokens is how many one picture becomes.
	Tokens int
	// Rank is that of the LoRA that the adapter brings besides, as FaceID does; 0: none. It acts on both rows of a sample with pictures, in full.
	Rank int
	// Blank is no picture, [Tokens, cross_attention_dim]: what the negative prompt attends to.
	Blank []float32
}

// check holds the adapter against the UNet, all weights at once.
func (p *ImagePrompts) check(cfg unet.Config) error {
	path, width := p.Attention.Path(), cfg.TextWidth()
	var manifest []checkpoint.Weight
	for _, layer := range cfg.Adapts() {
		name := layer.Path + ".weight"
		manifest = append(manifest, checkpoint.Weight{Name: name, Shape: []int{layer.Out, layer.In}})
		if info, ok := p.Attention.Info(name); ok && layer.In == width && len(info.Shape) == 2 && info.Shape[1] != width {
			return fmt.Errorf("%s: the IP-Adapter was made for text of width %d, this model's has %d (that of Stable Diffusion 1 has 768, of 2 1024, of XL 2048): take the one for this model",
				path, info.Shape[1], width)
		}
	}
	if err := p.Attention.Check(manifest); err != nil {
		return err
	}
	if p.Tokens < 1 || len(p.Blank) != p.Tokens*width {
		return fmt.Errorf("%s: %d numbers for %d image tokens of width %d", path, len(p.Blank), p.Tokens, width)
	}
	return nil
}

// imagePrompt is a subject's pictures.
type imagePrompt struct {
	tokens []float32 // [n·Tokens, D], n pictures
	scale  float32
}

// checkImages holds a subject's image tokens against the model's adapter.
func (s *Subject) checkImages(m *Model) error {
	n := len(s.ImageTokens)
	switch {
	case n == 0:
		return nil
	case m.images == nil:
		return errors.New("it is made of pictures, which the model reads with an IP-Adapter alone, and none is open")
	case n%len(m.images.Blank) != 0 || n > maxImages*len(m.images.Blank):
		return fmt.Errorf("%d numbers are not the image tokens of 1 to %d pictures, %d each", n, maxImages, len(m.images.Blank))
	case !op.Finite(s.ImageTokens):
		return errors.New("image tokens are not numbers")
	}
	return nil
}

// imagesOf lists the subjects' pictures that act.
func imagesOf(subjects []Subject) []imagePrompt {
	var all []imagePrompt
	for _, s := range subjects {
		if s.Scale != 0 && len(s.ImageTokens) > 0 {
			all = append(all, imagePrompt{s.ImageTokens, float32(s.Scale)})
		}
	}
	return all
}

// look adds to an input of the UNet the pictures that its rows attend to: the prompt's row a sample's own, the negative one's as many blanks, as
// strongly. Attention finds the same in tokens and in those tokens twice, so all are repeated to one length; a row with fewer pictures
// than another has some of scale 0.
func (m *Model) look(run map[string]op.Array, batch []*sample) {
	if m.images == nil {
		return
	}
	blank := m.images.Blank
	rows, most, pictures := 0, 1, 1
	for _, s := range batch {
		rows += s.rows()
		most = max(most, len(s.images))
		for _, image := range s.images {
			pictures = multiple(pictures, len(image.tokens)/len(blank))
		}
	}
	length := pictures * len(blank)
	tokens := make([]float32, 0, rows*most*length)
	var scales, adapter []float32
	for _, s := range batch {
		for row := range s.rows() {
			adapter = append(adapter, float32(min(len(s.images), 1)))
			for k := range most {
				own, scale := blank, float32(0)
				if k < len(s.images) {
					scale = s.images[k].scale
					if row == s.rows()-1 {
						own = s.images[k].tokens
					}
				}
				tokens = append(tokens, slices.Repeat(own, length/len(own))...)
				scales = append(scales, scale)
			}
		}
	}
	run["image_tokens"] = op.Floats(tokens, rows*most, pictures*m.images.Tokens, m.UNet.TextWidth())
	run["image_scale"] = op.Floats(scales, rows, most)
	if m.images.Rank > 0 {
		run["adapter_scale"] = op.Floats(adapter, rows)
	}
}

// multiple is the smallest that two positive numbers have in common.
func multiple(a, b int) int {
	all := a
	for all%b != 0 {
		all += a
	}
	return all
}

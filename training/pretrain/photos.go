//go:build torch

package pretrain

import (
	"image"
	"math/rand/v2"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"

	"likeness/models/pixels"
	"likeness/training/portraits"
)

// photos draws condition pictures. They are augmented as photos that people upload vary: framing, mirror image, light, contrast.
type photos struct {
	renderer *portraits.Renderer
	buffer   *image.RGBA
}

func newPhotos() *photos { return &photos{renderer: portraits.NewRenderer()} }

// draw writes the planes of a picture of the identity, of the given side.
func (p *photos) draw(planes []float32, id portraits.Identity, c portraits.Context, side int, r *rand.Rand) {
	picture := p.renderer.Draw(id, c)
	if p.buffer == nil || p.buffer.Rect.Dx() != side {
		p.buffer = image.NewRGBA(image.Rect(0, 0, side, side))
	}
	from := float64(portraits.Size)
	scale := float64(side) / from * (0.9 + 0.25*r.Float64())
	mirror := 1.0
	if r.IntN(4) == 0 {
		mirror = -1
	}
	dx, dy := 10*(r.Float64()-0.5), 10*(r.Float64()-0.5)
	half := float64(side) / 2
	// Corners that the moved picture leaves free repeat its own border colour.
	draw.Draw(p.buffer, p.buffer.Rect, image.NewUniform(picture.At(1, 1)), image.Point{}, draw.Src)
	to := f64.Aff3{mirror * scale, 0, half + dx - mirror*scale*from/2, 0, scale, half + dy - scale*from/2}
	draw.ApproxBiLinear.Transform(p.buffer, to, picture, picture.Rect, draw.Src, nil)
	pixels.Planes(planes, p.buffer)
	contrast, light := float32(0.85+0.3*r.Float64()), float32(0.2*(r.Float64()-0.5))
	noise := float32(0.05 * r.Float64())
	for i, v := range planes {
		planes[i] = max(-1, min(1, contrast*v+light+noise*(r.Float32()*2-1)))
	}
}

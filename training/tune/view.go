package tune

import (
	"image"
	"math"
	"math/rand/v2"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"

	"likeness/encoder"
	"likeness/models/pixels"
)

// box is where the face lies in a picture, over its side; all zeros where none is known.
type box struct{ x0, y0, x1, y1 float64 }

// view is a photo as the denoiser learns it once.
type view struct {
	planes []float32 // [3, side, side] in -1..1
	face   box
}

// How a photo is varied. Framing and light are the photo's; colours and proportions belong to the subject and stay.
const (
	closest  = 1.15 // most zoom
	lightest = 0.04 // most change of lightness, of the range -1..1
)

// views are n views of a photo, the first of which is the photo itself: others are mirrored or closer, and a little lighter or darker.
func views(p *encoder.Photo, n int, r *rand.Rand) []view {
	side := p.Image.Rect.Dx()
	s := float64(side)
	face := box{float64(p.Place.Min.X) / s, float64(p.Place.Min.Y) / s, float64(p.Place.Max.X) / s, float64(p.Place.Max.Y) / s}
	out := []view{{planes: make([]float32, 3*side*side), face: face}}
	pixels.Planes(out[0].planes, p.Image)
	buffer := image.NewRGBA(p.Image.Rect)
	for i := 1; i < n; i++ {
		zoom := 1 + (closest-1)*r.Float64()
		dx, dy := (zoom-1)*r.Float64(), (zoom-1)*r.Float64() // what is lost on the left and above, over the side
		mirrored := i%2 == 1
		to := f64.Aff3{zoom, 0, -dx * s, 0, zoom, -dy * s}
		if mirrored {
			to[0], to[2] = -zoom, s+dx*s
		}
		draw.CatmullRom.Transform(buffer, to, p.Image, p.Image.Rect, draw.Src, nil)
		v := view{planes: make([]float32, 3*side*side), face: face.seen(zoom, dx, dy, mirrored)}
		pixels.Planes(v.planes, buffer)
		light := float32(lightest * (2*r.Float64() - 1))
		for j, x := range v.planes {
			v.planes[j] = max(-1, min(1, x+light))
		}
		out = append(out, v)
	}
	return out
}

// seen is the box in a view.
func (b box) seen(zoom, dx, dy float64, mirrored bool) box {
	if b == (box{}) {
		return b
	}
	v := box{b.x0*zoom - dx, b.y0*zoom - dy, b.x1*zoom - dx, b.y1*zoom - dy}
	if mirrored {
		v.x0, v.x1 = 1-v.x1, 1-v.x0
	}
	return v
}

// How much places count in the loss: the face and what belongs to it fully, what is around it less and less, so that the concept is of
// the person and not of the scene.
const (
	margin   = 0.35 // around the box, over its side: hair, ears and chin
	softness = 0.12 // of the edge, over the picture's side
	far      = 0.2  // the weight of what is far away
)

// mask is the weight of each place of the latents, [h, w], one in the mean. Without a face every place counts alike.
func (b box) mask(h, w int) []float32 {
	weights := make([]float32, h*w)
	mx, my := margin*(b.x1-b.x0), margin*(b.y1-b.y0)
	sum := 0.0
	for i := range weights {
		x, y := (float64(i%w)+0.5)/float64(w), (float64(i/w)+0.5)/float64(h)
		dx, dy := max(b.x0-mx-x, 0, x-b.x1-mx), max(b.y0-my-y, 0, y-b.y1-my)
		weight := 1.0
		if b != (box{}) {
			weight = far + (1-far)*math.Exp(-(dx*dx+dy*dy)/(2*softness*softness))
		}
		weights[i] = float32(weight)
		sum += weight
	}
	for i := range weights {
		weights[i] *= float32(float64(len(weights)) / sum)
	}
	return weights
}

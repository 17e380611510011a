package portraits

import (
	"image"
	"math"
	"math/rand/v2"

	"github.com/fogleman/gg"
)

// Size is the side of every portrait, in pixels.
const Size = 128

// The middle of the eyes of an upright portrait. Shapes of a head are drawn relative to it: x to the right, y down.
const (
	eyesX, eyesY = 64, 63
	scale        = 1.12 // of a head of the usual size
)

// Renderer draws portraits into one picture of its own; it must not be shared between goroutines.
type Renderer struct {
	img *image.RGBA
	dc  *gg.Context
}

// NewRenderer returns a renderer.
func NewRenderer() *Renderer {
	img := image.NewRGBA(image.Rect(0, 0, Size, Size))
	return &Renderer{img, gg.NewContextForRGBA(img)}
}

// Draw draws id in c. The picture belongs to the renderer and is valid until the next Draw; equal arguments give equal pictures.
func (r *Renderer) Draw(id Identity, c Context) *image.RGBA {
	p := &pen{dc: r.dc, style: c.Style}
	r.dc.Identity()
	r.dc.ClearPath()
	p.scene(c.Scene, rand.New(rand.NewPCG(c.Seed, 0x7363656e65)))

	if c.Style == PencilSketch {
		p.edge = 1.1
	}
	f := newFigure(p, id, c)
	s := scale * (1 + c.Pose.Zoom)
	r.dc.Translate(eyesX+c.Pose.ShiftX, eyesY+c.Pose.ShiftY)
	r.dc.Scale(s, s)
	tilted := func(draw ...func()) {
		r.dc.Push()
		r.dc.RotateAbout(c.Pose.Tilt, 0, f.chin)
		for _, d := range draw {
			d()
		}
		r.dc.Pop()
	}
	tilted(f.hairBehind)
	f.body()
	tilted(f.ears, f.head, f.cheeks, f.nose, f.beard, f.mouth, f.eyes, f.brows, f.hair, f.glasses, f.headwear)
	r.dc.Identity()
	if c.Style == PixelArt {
		cells(r.img, f.dots)
	}
	return r.img
}

// figure is a person in a context, measured for drawing.
type figure struct {
	*pen
	id Identity
	c  Context

	top, chin, half float64 // of the head: y of crown and chin, half its width at the eyes
	turn            float64 // how far the features stand from the middle
	volume          float64 // thickness of the hair
	skin, shade     ink
	mane            ink
	contour         [2*steps + 1][2]float64 // the right half of the head, crown to chin
}

const steps = 14 // of the contour, above and below the eyes

func newFigure(p *pen, id Identity, c Context) *figure {
	f := &figure{pen: p, id: id, c: c}
	f.top, f.chin = -lerp(23, 30, id.Forehead), lerp(28.5, 38, id.Chin)
	f.half = lerp(20.5, 27.5, id.FaceWidth)
	f.turn = 3 * c.Pose.Turn
	f.volume = lerp(2.5, 6.5, id.HairVolume)
	f.skin = skinInk(id)
	f.shade = f.skin.mix(hex(0x7a2f1d), 0.22).dark(0.3 * (1 - f.skin.luminance()))
	f.mane = hairInk(id)
	f.trace()
	return f
}

// trace computes the contour: half an ellipse above the eyes, below a superellipse whose exponents are jaw and chin.
func (f *figure) trace() {
	n, m := lerp(1.75, 3.6, f.id.Jaw), lerp(1.55, 2.5, f.id.ChinShape)
	for k := 0; k <= steps; k++ {
		a := math.Pi / 2 * float64(k) / steps
		f.contour[k] = [2]float64{f.half * math.Pow(math.Sin(a), 0.92), f.top * math.Cos(a)}
		u := math.Sin(a)
		x := f.half * math.Pow(max(1-math.Pow(u, n), 0), 1/m)
		x += lerp(-1, 2.6, f.id.Cheeks) * math.Pow(math.Sin(math.Pi*u), 2)
		if k > 0 {
			f.contour[steps+k] = [2]float64{x, f.chin * u}
		}
	}
	f.contour[2*steps] = [2]float64{0, f.chin}
}

// width is half the head's width at y.
func (f *figure) width(y float64) float64 {
	for k := 1; k < len(f.contour); k++ {
		if a, b := f.contour[k-1], f.contour[k]; y <= b[1] && b[1] > a[1] {
			return lerp(a[0], b[0], min(max((y-a[1])/(b[1]-a[1]), 0), 1))
		}
	}
	return 0
}

// around is the part of the contour between two heights, from the left side over the crown (or the chin) to the right, grown outwards.
func (f *figure) around(from, to, grow float64, start bool) {
	var side [][2]float64
	for k, q := range f.contour {
		if q[1] < from || q[1] > to {
			continue
		}
		before, after := f.contour[max(k-1, 0)], f.contour[min(k+1, 2*steps)]
		dx, dy := after[0]-before[0], after[1]-before[1]
		if k == 0 || k == 2*steps {
			dx, dy = map[bool]float64{true: 1, false: -1}[k == 0], 0
		}
		l := math.Hypot(dx, dy)
		side = append(side, [2]float64{q[0] + grow*dy/l, q[1] - grow*dx/l})
	}
	step := func(x, y float64) {
		if start {
			f.dc.MoveTo(x, y)
			start = false
			return
		}
		f.dc.LineTo(x, y)
	}
	crown := from <= f.top
	if crown {
		side = append(side, [2]float64{f.width(to) + grow, to})
	}
	for k := range side {
		q := side[k]
		if crown {
			q = side[len(side)-1-k]
		}
		step(-q[0], q[1])
	}
	for k := range side {
		q := side[len(side)-1-k]
		if crown {
			q = side[k]
		}
		step(q[0], q[1])
	}
}

var skins = [][2]ink{ // lightest and deepest of each tone
	{hex(0xffe6d6), hex(0xfbd3bb)}, {hex(0xf9cfa8), hex(0xefba8c)}, {hex(0xdfa673), hex(0xcd8f5c)},
	{hex(0xa9693f), hex(0x8f5430)}, {hex(0x6f4026), hex(0x532d1c)},
}

func skinInk(id Identity) ink {
	c := skins[id.Skin][0].mix(skins[id.Skin][1], id.SkinShade)
	return c.mix(ink{c.r * 1.04, c.g * 0.95, c.b * 0.9}, id.SkinWarm)
}

var hairs = [][2]ink{
	{hex(0x2b2733), hex(0x15131a)}, {hex(0x7a4a2b), hex(0x4e2d1b)}, {hex(0xf7d774), hex(0xdca944)}, {hex(0xe2703a), hex(0xb8401f)},
	{hex(0xa9abb3), hex(0x83858f)}, {hex(0xffffff), hex(0xe4e4ea)}, {hex(0x4f9be8), hex(0x2f66c9)}, {hex(0xf78fc0), hex(0xe0569c)},
}

func hairInk(id Identity) ink {
	return hairs[id.HairColor][0].mix(hairs[id.HairColor][1], id.HairShade)
}

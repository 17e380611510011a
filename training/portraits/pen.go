package portraits

import (
	"image/color"
	"math"

	"github.com/fogleman/gg"
)

// ink is an opaque colour, each part in 0 to 1.
type ink struct{ r, g, b float64 }

func hex(v uint32) ink {
	return ink{float64(v>>16&255) / 255, float64(v>>8&255) / 255, float64(v&255) / 255}
}

// mix is the colour t of the way to other.
func (c ink) mix(other ink, t float64) ink {
	return ink{lerp(c.r, other.r, t), lerp(c.g, other.g, t), lerp(c.b, other.b, t)}
}

func (c ink) luminance() float64 { return 0.299*c.r + 0.587*c.g + 0.114*c.b }

func (c ink) dark(t float64) ink  { return c.mix(ink{0.08, 0.05, 0.12}, t) }
func (c ink) light(t float64) ink { return c.mix(ink{1, 1, 1}, t) }

func lerp(a, b, t float64) float64 { return a + (b-a)*t }

// pen draws with anti-aliasing, in the manner of a style.
type pen struct {
	dc    *gg.Context
	style Style
	edge  float64 // width of the contour that a sketch draws around filled shapes; 0: none
	dots  []dot   // what pixel art sets cell by cell
}

// seen is c as the style shows it: a sketch keeps lightness and a breath of colour.
func (p *pen) seen(c ink) ink {
	if p.style != PencilSketch {
		return c
	}
	l := 0.33 + 0.64*math.Pow(c.luminance(), 0.8)
	return ink{l, l, l * 0.985}.mix(ink{c.r + l - c.luminance(), c.g + l - c.luminance(), c.b + l - c.luminance()}, 0.2)
}

// packed is the colour as 0xRRGGBB.
func (c ink) packed() uint32 {
	at := func(v float64) uint32 { return uint32(math.Round(255 * min(max(v, 0), 1))) }
	return at(c.r)<<16 | at(c.g)<<8 | at(c.b)
}

func (p *pen) set(c ink) {
	v := c.packed()
	p.dc.SetColor(color.RGBA{uint8(v >> 16), uint8(v >> 8), uint8(v), 255})
}

var graphite = ink{0.22, 0.22, 0.24}

// fill fills the current path; a sketch also gives it a contour.
func (p *pen) fill(c ink) {
	p.set(p.seen(c))
	if p.style != PencilSketch || p.edge == 0 {
		p.dc.Fill()
		return
	}
	p.dc.FillPreserve()
	p.set(graphite.mix(p.seen(c), 0.12))
	p.dc.SetLineWidth(p.edge)
	p.dc.Stroke()
}

// paint fills the current path without a contour.
func (p *pen) paint(c ink) {
	p.set(p.seen(c))
	p.dc.Fill()
}

// line strokes the current path; pixels cannot show a thin line, so it is at least 2.6 wide there.
func (p *pen) line(width float64, c ink) {
	if p.style == PixelArt {
		width = max(width, 2.6)
	}
	if p.style == PencilSketch {
		c = graphite.mix(p.seen(c), 0.3)
		p.set(c)
	} else {
		p.set(c)
	}
	p.dc.SetLineWidth(width)
	p.dc.Stroke()
}

func (p *pen) ellipse(x, y, rx, ry float64) { p.dc.DrawEllipse(x, y, rx, ry) }

// polygon is a closed path through x, y pairs.
func (p *pen) polygon(xy ...float64) {
	p.dc.MoveTo(xy[0], xy[1])
	for i := 2; i < len(xy); i += 2 {
		p.dc.LineTo(xy[i], xy[i+1])
	}
	p.dc.ClosePath()
}

// arc is an open curve from (x0, y0) to (x1, y1) pulled towards (cx, cy).
func (p *pen) arc(x0, y0, cx, cy, x1, y1 float64) {
	p.dc.MoveTo(x0, y0)
	p.dc.QuadraticTo(cx, cy, x1, y1)
}

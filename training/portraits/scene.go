package portraits

import (
	"math"
	"math/rand/v2"
)

// scene paints the whole ground; r places what may stand anywhere.
func (p *pen) scene(s Scene, r *rand.Rand) {
	if s < Beach {
		p.plain(grounds[s])
		return
	}
	p.edge = 0
	if p.style == PencilSketch {
		p.edge = 0.8
	}
	[]func(*rand.Rand){p.beach, p.forest, p.space, p.city, p.snow, p.sunset, p.mountains, p.desert, p.underwater, p.rainbow}[s-Beach](r)
	p.edge = 0
}

var grounds = []ink{hex(0xfafaf8), hex(0xb9bcc4), hex(0xf8b8cc), hex(0xffe08a), hex(0x8ab8f0), hex(0xa2d69a)}

func (p *pen) plain(c ink) { p.band(0, Size, c) }

// band is a stripe over the whole width.
func (p *pen) band(from, to float64, c ink) {
	p.dc.DrawRectangle(-2, from, Size+4, to-from)
	p.paint(c)
}

// hill is ground whose edge swings about y.
func (p *pen) hill(y, swing, phase float64, c ink) {
	p.dc.MoveTo(-4, Size+4)
	for x := -4.0; x <= Size+4; x += 6 {
		p.dc.LineTo(x, y+swing*math.Sin(phase+x*0.045))
	}
	p.dc.LineTo(Size+4, Size+4)
	p.dc.ClosePath()
	p.fill(c)
}

func (p *pen) cloud(x, y, s float64) {
	p.ellipse(x-7*s, y+1, 6*s, 4*s)
	p.ellipse(x+7*s, y+1, 6*s, 4*s)
	p.ellipse(x, y-1, 8*s, 6*s)
	p.paint(hex(0xffffff))
}

// either is a or b.
func either(r *rand.Rand, a, b float64) float64 {
	if r.IntN(2) == 0 {
		return a
	}
	return b
}

func (p *pen) beach(r *rand.Rand) {
	p.plain(hex(0x8fdcf5))
	p.ellipse(either(r, 18, 110), 16+6*r.Float64(), 11, 11)
	p.fill(hex(0xffe14d))
	p.band(70, 96, hex(0x1f8fce))
	p.hill(95, 2, 6*r.Float64(), hex(0xf2d694))
	x, s := 14.0, 1.0
	if r.IntN(2) == 0 {
		x, s = 114, -1
	}
	p.dc.MoveTo(x-2, 104)
	p.dc.QuadraticTo(x-4*s, 70, x+3*s, 46)
	p.dc.LineTo(x+6*s, 47)
	p.dc.QuadraticTo(x+1*s, 72, x+4, 104)
	p.fill(hex(0x8c5a2e))
	for k := range 5 {
		a := math.Pi * (1.05 + 0.24*float64(k))
		p.dc.Push()
		p.dc.RotateAbout(a, x+4*s, 46)
		p.ellipse(x+4*s+10, 46, 10.5, 3)
		p.dc.Pop()
		p.fill(hex(0x2f9a4e))
	}
}

func (p *pen) fir(x, base, h float64, c ink) {
	w := h * 0.34
	p.dc.DrawRectangle(x-2, base-4, 4, 8)
	p.fill(hex(0x6b4426))
	p.polygon(x, base-h, x+w*0.75, base-h*0.45, x-w*0.75, base-h*0.45)
	p.fill(c)
	p.polygon(x, base-h*0.7, x+w, base-2, x-w, base-2)
	p.fill(c)
}

func (p *pen) forest(r *rand.Rand) {
	p.plain(hex(0xc9ecd0))
	shift := 6 * r.Float64()
	for k := range 6 {
		p.fir(shift-4+float64(k)*26, 88, 58+14*r.Float64(), hex(0x6fb58a))
	}
	p.hill(92, 3, 6*r.Float64(), hex(0x69b04e))
	p.fir(13+shift, 100, 74+10*r.Float64(), hex(0x23744a))
	p.fir(110+shift, 100, 74+10*r.Float64(), hex(0x23744a))
}

func (p *pen) space(r *rand.Rand) {
	p.plain(hex(0x171a40))
	edge := p.edge
	p.edge = 0
	for range 30 {
		s := 0.8 + 0.9*r.Float64()
		p.ellipse(128*r.Float64(), 128*r.Float64(), s, s)
	}
	p.fill(hex(0xfff6d8))
	p.edge = edge
	x, y := either(r, 20, 108), 20+8*r.Float64()
	p.ellipse(x, y, 12, 12)
	p.fill(hex(0xf0894f))
	p.dc.Push()
	p.dc.RotateAbout(-0.35, x, y)
	p.ellipse(x, y, 19, 3.6)
	p.dc.Pop()
	p.fill(hex(0xffd9a0))
	p.dc.DrawArc(x, y, 12, math.Pi-0.35, 2*math.Pi-0.35)
	p.paint(hex(0xf0894f))
	p.ellipse(128-x, 84+8*r.Float64(), 6, 6)
	p.fill(hex(0x7fc7e8))
}

func (p *pen) city(r *rand.Rand) {
	p.plain(hex(0x232a5c))
	p.ellipse(either(r, 22, 106), 17, 9, 9)
	p.fill(hex(0xfdf3c4))
	for x := -3.0; x < Size; {
		w, h := 17+6*r.Float64(), 52+34*r.Float64()
		p.dc.DrawRectangle(x, Size-h, w, h+4)
		p.fill([]ink{hex(0x3d4688), hex(0x4a3f7a), hex(0x34406f)}[r.IntN(3)])
		for y := Size - h + 6; y < 120; y += 11 {
			for k := range 2 {
				if r.IntN(4) > 0 {
					p.dc.DrawRectangle(x+3+float64(k)*(w/2-0.5), y, 4.5, 5.5)
				}
			}
		}
		p.paint(hex(0xffd65c))
		x += w + 1
	}
}

func (p *pen) snow(r *rand.Rand) {
	p.plain(hex(0xb8d3ea))
	p.hill(84, 5, 6*r.Float64(), hex(0xdde9f4))
	x := either(r, 14, 114)
	p.fir(x, 100, 62, hex(0x3f7f78))
	p.polygon(x, 38, x+8, 54, x-8, 54)
	p.paint(hex(0xffffff))
	p.hill(100, 4, 6*r.Float64(), hex(0xffffff))
	edge := p.edge
	p.edge *= 0.6
	for range 24 {
		s := 1.3 + 1.1*r.Float64()
		p.ellipse(128*r.Float64(), 96*r.Float64(), s, s)
	}
	p.fill(hex(0xffffff))
	p.edge = edge
}

func (p *pen) sunset(r *rand.Rand) {
	bands := []ink{hex(0x6a3a86), hex(0xa9478c), hex(0xdd5f7e), hex(0xf5845f), hex(0xfcae58), hex(0xffd070)}
	for k, c := range bands {
		p.band(float64(k)*17, float64(k)*17+18, c)
	}
	p.ellipse(either(r, 24, 104), 92, 20, 20)
	p.fill(hex(0xfff0a0))
	p.hill(97, 3, 6*r.Float64(), hex(0x5a2f5f))
}

func (p *pen) peak(x, y, w float64, c ink) {
	p.polygon(x-w, 108, x, y, x+w, 108)
	p.fill(c)
	h := 108 - y
	p.polygon(x, y, x+w*0.3, y+h*0.3, x+w*0.1, y+h*0.25, x-w*0.06, y+h*0.34, x-w*0.3, y+h*0.3)
	p.paint(hex(0xffffff))
}

func (p *pen) mountains(r *rand.Rand) {
	p.plain(hex(0xa4cdf2))
	p.cloud(either(r, 24, 100), 14, 1)
	x := 12 * r.Float64()
	p.peak(60+x, 34, 46, hex(0x93a3bd))
	p.peak(12+x, 26, 42, hex(0x7488a6))
	p.peak(112+x, 32, 44, hex(0x7488a6))
	p.hill(102, 3, 6*r.Float64(), hex(0x7cb860))
}

func (p *pen) desert(r *rand.Rand) {
	p.plain(hex(0xfde3a6))
	p.ellipse(either(r, 22, 106), 20, 11, 11)
	p.fill(hex(0xff9d3b))
	p.hill(84, 6, 6*r.Float64(), hex(0xe9a95c))
	p.hill(98, 5, 6*r.Float64(), hex(0xd98a45))
	x, g := either(r, 14, 114), hex(0x3f8f4f)
	p.dc.DrawRoundedRectangle(x-4, 58, 8, 46, 4)
	p.fill(g)
	p.dc.DrawRoundedRectangle(x-11, 70, 5, 16, 2.5)
	p.dc.DrawRectangle(x-10, 81, 8, 5)
	p.dc.DrawRoundedRectangle(x+6, 66, 5, 16, 2.5)
	p.dc.DrawRectangle(x+2, 77, 8, 5)
	p.paint(g)
}

func (p *pen) underwater(r *rand.Rand) {
	for k, c := range []ink{hex(0x52c7dc), hex(0x35aecf), hex(0x2291bd), hex(0x1a76a6), hex(0x155f8e)} {
		p.band(float64(k)*26, float64(k)*26+27, c)
	}
	for k := range 4 {
		x := []float64{8, 22, 106, 120}[k] + 3*r.Float64()
		p.dc.MoveTo(x, 132)
		p.dc.CubicTo(x-9, 112, x+9, 96, x, 74+10*r.Float64())
		p.line(5, hex(0x2fae6a))
	}
	s := either(r, -1, 1)
	x, y := 64+48*s, 30+12*r.Float64()
	p.polygon(x+7*s, y, x+15*s, y-6, x+15*s, y+6)
	p.fill(hex(0xff9a3d))
	p.ellipse(x, y, 9.5, 6)
	p.fill(hex(0xff9a3d))
	p.ellipse(x-5*s, y-1, 1.3, 1.3)
	p.paint(hex(0x1b1b24))
	for range 8 {
		b := 1.6 + 1.8*r.Float64()
		p.ellipse(64-s*(36+24*r.Float64()), 70*r.Float64(), b, b)
	}
	p.fill(hex(0xc8f2fa))
}

func (p *pen) rainbow(r *rand.Rand) {
	p.plain(hex(0xc4e8fb))
	y := 92 + 6*r.Float64()
	for k, c := range []ink{hex(0xf0524f), hex(0xff9a3d), hex(0xffdf4f), hex(0x5fc46a), hex(0x4a8fe8), hex(0x9a5fd0), hex(0xc4e8fb)} {
		rad := 84 - 6*float64(k)
		p.ellipse(64, y, rad, rad)
		p.paint(c)
	}
	p.cloud(10, 74, 1.1)
	p.cloud(118, 78, 1.1)
	p.hill(104, 3, 6*r.Float64(), hex(0x83c76a))
}

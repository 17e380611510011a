package portraits

import "math"

// sides calls draw for the left (-1) and the right (1) of the face.
func sides(draw func(s float64)) { draw(-1); draw(1) }

var shirts = []ink{hex(0xeceff4), hex(0xd93636), hex(0x2f62d0), hex(0x2f9c4f), hex(0xf5c527), hex(0x8140b0), hex(0x26262e), hex(0xf48fb8)}

func (f *figure) body() {
	neck, y := lerp(8, 12.5, f.id.Neck), f.chin+7
	reach := lerp(33, 45, f.id.Shoulders)
	shirt := shirts[f.c.Clothes]
	f.polygon(-neck, f.chin-14, neck, f.chin-14, neck+1, y+6, -neck-1, y+6)
	f.fill(f.shade)
	f.dc.MoveTo(-neck-3, y)
	f.dc.CubicTo(-reach*0.75, y+4, -reach, y+9, -reach-3, 90)
	f.dc.LineTo(reach+3, 90)
	f.dc.CubicTo(reach, y+9, reach*0.75, y+4, neck+3, y)
	f.dc.QuadraticTo(0, y+13, -neck-3, y)
	f.fill(shirt)
	f.arc(-neck-2, y+0.8, 0, y+13.5, neck+2, y+0.8)
	f.line(2.4, shirt.dark(0.22))
}

func (f *figure) ears() {
	if f.c.Headwear == Headphones {
		return
	}
	size, y := lerp(3.6, 7.4, f.id.EarSize), lerp(6, 0, f.id.EarHeight)
	sides(func(s float64) {
		x := s*(f.width(y)+size*0.25) - f.turn*0.3
		f.ellipse(x, y, size*0.72, size)
		f.fill(f.skin)
		f.ellipse(x+s*0.3, y, size*0.36, size*0.55)
		f.paint(f.shade)
		if f.id.Earrings {
			f.ellipse(x+s*0.4, y+size+1.4, 1.9, 1.9)
			f.fill(hex(0xffc93c))
		}
	})
}

func (f *figure) head() {
	f.around(f.top, f.chin, 0, true)
	f.dc.ClosePath()
	f.fill(f.skin)
}

func (f *figure) cheeks() {
	y := 0.36 * f.chin
	sides(func(s float64) {
		x := s*(f.eyeX()+2.5) + f.turn*0.8
		if f.id.Blush > 0.15 {
			f.ellipse(x, y, 4.6, 3.3)
			f.paint(f.skin.mix(hex(0xf0526a), 0.32*f.id.Blush))
		}
		if f.id.Freckles {
			for k := range 4 {
				f.ellipse(x-s*2.5+float64(k%2)*3.4*s, y-2+float64(k/2)*2.7+0.7*float64(k%2), 0.85, 0.85)
				f.paint(f.skin.mix(hex(0x7a3416), 0.6))
			}
		}
	})
	if m := f.id.Mole; m != NoMole {
		x, y := map[Mole]float64{LeftMole: -11.5, RightMole: 11.5, ChinMole: 4.5}[m], 0.46*f.chin
		if m == ChinMole {
			y = 0.86 * f.chin
		}
		f.ellipse(x+f.turn*0.8, y, 1.6, 1.6)
		f.paint(f.skin.mix(hex(0x2a1208), 0.8))
	}
}

func (f *figure) eyeX() float64 { return lerp(8.2, 12.6, f.id.EyeSpacing) }

var irises = []ink{hex(0x6b3d1e), hex(0x2f7fe0), hex(0x2f9a52), hex(0x8b97a6)}

func (f *figure) eyes() {
	rx := lerp(3.9, 5.7, f.id.EyeSize)
	ry := rx * lerp(0.58, 0.92, f.id.EyeRound)
	switch f.c.Expression {
	case Surprised:
		ry = min(ry*1.3, rx*1.1)
	case Laughing, Angry:
		ry *= 0.72
	}
	dark := f.skin.mix(hex(0x1c1014), 0.86)
	if f.style == PixelArt {
		if f.c.Glasses != Sunglasses {
			sides(func(s float64) { f.pixelEye(s, rx, ry, dark) })
		}
		return
	}
	sides(func(s float64) {
		f.dc.Push()
		defer f.dc.Pop()
		f.dc.Translate(s*f.eyeX()+f.turn, 0)
		f.dc.Rotate(-s * lerp(-0.16, 0.26, f.id.EyeTilt))
		if f.c.Expression == Winking && s > 0 {
			f.arc(-rx, 0.8, 0, -ry*0.8, rx, 0.8)
			f.line(1.8, dark)
			return
		}
		f.eye(s, rx, ry, dark)
	})
}

// eye draws one eye about the origin.
func (f *figure) eye(s, rx, ry float64, dark ink) {
	edge := f.edge
	f.edge *= 0.7
	f.dc.MoveTo(-rx, 0.2)
	f.dc.QuadraticTo(-rx*0.6, -ry*1.25, 0, -ry*1.05)
	f.dc.QuadraticTo(rx*0.6, -ry*1.25, rx, 0.2)
	f.dc.QuadraticTo(0, ry*1.75, -rx, 0.2)
	f.fill(hex(0xffffff))
	f.edge = edge
	iris := min(lerp(2.2, 3.1, f.id.Iris), ry*1.05)
	x := 0.5 * f.c.Pose.Turn
	f.ellipse(x, 0, iris, iris)
	f.set(f.seen(irises[f.id.EyeColor]).mix(irises[f.id.EyeColor], 0.5)) // a sketch keeps some colour here
	f.dc.Fill()
	f.ellipse(x, 0, iris*0.5, iris*0.5)
	f.paint(hex(0x140c10))
	if f.style != PixelArt {
		f.ellipse(x-0.8, -0.9, 0.75, 0.75)
		f.paint(hex(0xffffff))
	}
	f.dc.MoveTo(-rx, 0.2)
	f.dc.QuadraticTo(-rx*0.6, -ry*1.25, 0, -ry*1.05)
	f.dc.QuadraticTo(rx*0.6, -ry*1.25, rx, 0.2)
	width := 1.2
	if f.id.Lashes {
		width = 1.9
		f.arc(s*(rx-0.4), -0.2, s*(rx+0.9), -0.6, s*(rx+2.3), -2.5)
	}
	f.line(width, dark)
}

func (f *figure) brows() {
	thick, length := lerp(1.2, 3.9, f.id.BrowThick), 5.6
	y := -lerp(7.4, 11.2, f.id.BrowHeight)
	inner := lerp(-1.8, 2.2, f.id.BrowTilt) // how much lower the inner end is
	arch := lerp(0.2, 3.8, f.id.BrowArch)
	switch f.c.Expression {
	case Surprised:
		y -= 3
	case Angry:
		inner, y, arch = inner+3.6, y+2, 0.3
	case Sad:
		inner -= 3.6
	case Laughing:
		y -= 1
	}
	c := f.mane.mix(f.skin, 0.15)
	if f.id.HairColor == WhiteHair || f.id.HairColor == GreyHair || f.id.HairColor == BlondHair {
		c = f.mane.dark(0.22)
	}
	sides(func(s float64) {
		x := s*(f.eyeX()+0.3) + f.turn
		f.dc.SetLineCapRound()
		f.arc(x-s*length, y+inner, x, y-arch*1.4, x+s*length, y-inner*0.4+0.6)
		f.line(thick, c)
		f.dc.SetLineCapButt()
	})
}

// noseTip is the height of the tip of the nose.
func (f *figure) noseTip() float64 { return f.chin * lerp(0.27, 0.43, f.id.NoseLength) }

func (f *figure) nose() {
	w, y, x := lerp(2.3, 5.6, f.id.NoseWidth), f.noseTip(), f.turn*1.4
	c := f.shade
	switch f.id.Nose {
	case ButtonNose:
		f.ellipse(x, y-1, w*0.92, w*0.8)
		f.paint(c)
	case StraightNose:
		f.dc.MoveTo(x-w*0.35, 0.5)
		f.dc.LineTo(x-w, y)
		f.dc.QuadraticTo(x, y+2.4, x+w, y)
		f.line(1.7, c.dark(0.12))
	case PointedNose:
		f.polygon(x-0.8, -1, x+w*1.1, y+1.6, x-w*0.9, y+1.6)
		f.paint(c.dark(0.06))
	case BroadNose:
		sides(func(s float64) {
			f.ellipse(x+s*w*0.75, y, w*0.62, w*0.52)
			f.paint(c)
		})
		f.ellipse(x, y-0.6, w*0.8, w*0.85)
		f.paint(c.mix(f.skin, 0.25))
	}
}

// mouthY is the height of the mouth.
func (f *figure) mouthY() float64 {
	return lerp(f.noseTip(), f.chin, lerp(0.34, 0.5, f.id.MouthHeight))
}

func (f *figure) mouth() {
	w, y, x := lerp(5.2, 9.6, f.id.MouthWidth), f.mouthY(), f.turn
	full := lerp(0.5, 3, f.id.Lips)
	lip := f.skin.mix(hex(0xc22a44), lerp(0.2, 0.95, f.id.LipTint))
	dark := hex(0x5a1622)
	if f.style == PencilSketch { // where a lip has a skin's lightness
		lip = lip.dark(0.1 + 0.3*f.id.LipTint)
	}
	if f.style == PixelArt {
		f.pixelMouth(x, y, w, lip, dark)
		return
	}
	lips := func(bend float64) { // closed: ends raised by bend
		f.dc.MoveTo(x-w, y-bend)
		f.dc.QuadraticTo(x-w*0.3, y+bend*0.6-full*1.3, x, y+bend*0.4-full*0.6)
		f.dc.QuadraticTo(x+w*0.3, y+bend*0.6-full*1.3, x+w, y-bend)
		f.dc.QuadraticTo(x, y+bend*1.6+full*2.6, x-w, y-bend)
		f.paint(lip)
		f.arc(x-w, y-bend, x, y+bend*1.7, x+w, y-bend)
		f.line(1.3, dark)
	}
	switch f.c.Expression {
	case Neutral:
		lips(0)
	case Smiling:
		w *= 1.08
		lips(2.6)
	case Sad:
		y += 1
		lips(-2.8)
	case Laughing:
		f.grin(x, y, w*1.12, full, lip, dark)
	case Angry:
		f.dc.DrawRoundedRectangle(x-w*0.9, y-2, w*1.8, 4.6, 1.6)
		f.paint(lip.mix(dark, 0.35))
		f.dc.DrawRectangle(x-w*0.9+1.3, y-0.8, w*1.8-2.6, 2.2)
		f.paint(hex(0xffffff))
	case Surprised:
		f.ellipse(x, y+0.8, w*0.42+full*0.8, 3.4+full*0.9)
		f.paint(lip)
		f.ellipse(x, y+0.8, w*0.42, 3.4)
		f.paint(dark)
	case Winking:
		x -= 1
		f.ellipse(x+w*0.25, y+3, 2.9, 3.4)
		f.paint(hex(0xf06a7e))
		lips(2.4)
	}
}

// grin is an open, laughing mouth.
func (f *figure) grin(x, y, w, full float64, lip, dark ink) {
	depth := 7.2
	bowl := func(grow float64) {
		f.dc.MoveTo(x-w-grow, y-2.4-grow)
		f.dc.QuadraticTo(x, y-grow*0.6, x+w+grow, y-2.4-grow)
		f.dc.CubicTo(x+w*0.8, y+depth+grow, x-w*0.8, y+depth+grow, x-w-grow, y-2.4-grow)
	}
	bowl(full * 0.7)
	f.paint(lip)
	bowl(0)
	f.paint(dark)
	f.dc.MoveTo(x-w*0.84, y-1.6)
	f.dc.QuadraticTo(x, y-0.2, x+w*0.84, y-1.6)
	f.dc.QuadraticTo(x, y+3.4, x-w*0.84, y-1.6)
	f.paint(hex(0xffffff))
	f.ellipse(x, y+3.5, w*0.36, 1.2)
	f.paint(hex(0xe0566a))
}

func (f *figure) beard() {
	c, x, y := f.mane, f.turn*0.8, f.mouthY()
	grow := lerp(0.3, 2.2, f.id.BeardWidth)
	switch f.id.Beard {
	case Stubble:
		f.jaw(0.26*f.chin, 0, 0, y-3)
		f.paint(f.skin.mix(c, 0.34))
		f.moustache(x, y, 0.8, f.skin.mix(c, 0.34))
	case Moustache:
		f.moustache(x, y, lerp(0.75, 1.25, f.id.BeardWidth), c)
	case Goatee:
		w := lerp(4, 8, f.id.BeardWidth)
		f.dc.DrawRoundedRectangle(x-w, y+3.2, 2*w, f.chin-y+0.5, w*0.8)
		f.fill(c)
		f.moustache(x, y, 0.85, c)
	case FullBeard:
		f.jaw(lerp(0.2, 0.08, f.id.BeardWidth)*f.chin, grow, 1, y-4.5)
		f.fill(c)
		f.moustache(x, y, 1, c)
	case LongBeard:
		f.jaw(lerp(0.2, 0.08, f.id.BeardWidth)*f.chin, grow, lerp(10, 18, f.id.BeardWidth), y-4.5)
		f.fill(c)
		f.moustache(x, y, 1.15, c)
	}
}

// jaw is the path of hair on the jaw: from the cheeks at height from, grown outwards, longer at the chin, up to inner before the lips.
func (f *figure) jaw(from, grow, longer, inner float64) {
	first := true
	for k := -2 * steps; k <= 2*steps; k++ {
		s := 1.0
		q := f.contour[2*steps-max(k, -k)]
		if k < 0 {
			s = -1
		}
		if q[1] < from {
			continue
		}
		u := (q[1] - from) / (f.chin - from)
		px, py := s*(q[0]+grow*math.Sqrt(1-u)), q[1]+(grow+longer)*u*u
		if first {
			f.dc.MoveTo(px, py)
			first = false
			continue
		}
		f.dc.LineTo(px, py)
	}
	w := f.width(from)
	f.dc.CubicTo(w*0.8, from+4, w*0.72, inner, 0.35*w, inner)
	f.dc.LineTo(-0.35*w, inner)
	f.dc.CubicTo(-w*0.72, inner, -w*0.8, from+4, -f.width(from), from)
	f.dc.ClosePath()
}

func (f *figure) moustache(x, y, size float64, c ink) {
	top, w := max(f.noseTip()+1.6, y-5.6), 8.6*size
	f.dc.MoveTo(x, top)
	f.dc.CubicTo(x+w*0.5, top-0.8, x+w*0.9, y-3, x+w, y+0.4)
	f.dc.QuadraticTo(x+w*0.4, y-0.6, x, y-1.6+0.5*size)
	f.dc.QuadraticTo(x-w*0.4, y-0.6, x-w, y+0.4)
	f.dc.CubicTo(x-w*0.9, y-3, x-w*0.5, top-0.8, x, top)
	if f.id.Beard == Stubble {
		f.paint(c)
		return
	}
	edge := f.edge
	f.edge *= 0.6
	f.fill(c)
	f.edge = edge
}

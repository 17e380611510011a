package portraits

import "math"

// hatted says that the headwear covers the crown.
func (f *figure) hatted() bool {
	switch f.c.Headwear {
	case Cap, Beanie, WizardHat, CowboyHat:
		return true
	}
	return false
}

// hairBehind draws the hair behind head and shoulders.
func (f *figure) hairBehind() {
	c, v, w := f.mane.dark(0.1), f.volume, f.half
	switch f.id.HairStyle {
	case Afro:
		r := w + 3.5 + 1.4*v
		if f.hatted() {
			f.ellipse(0, 2, r, r*0.78)
		} else {
			f.ellipse(0, f.top*0.42, r, r*0.98)
		}
		f.fill(f.mane)
	case Curly:
		for k := range 13 {
			a := math.Pi * (0.94 + 1.12*float64(k)/12)
			if f.hatted() && math.Abs(math.Cos(a)) < 0.75 {
				continue
			}
			f.ellipse((w+v*0.5)*math.Cos(a), f.top*0.1+(v*0.6-f.top*0.92)*math.Sin(a), 5+v*0.45, 5+v*0.45)
		}
		f.fill(f.mane)
	case Long:
		f.drape(w+v+1, 58, 3)
		f.fill(c)
	case Wavy:
		for k := range 5 {
			y := -4 + 10.5*float64(k)
			sides(func(s float64) { f.ellipse(s*(w-1+0.4*v+math.Abs(float64(k)-2)*-0.8), y, 7+0.5*v, 8.5) })
		}
		f.drape(w+v-1, 44, 0)
		f.fill(c)
	case Bob:
		f.drape(w+v+1.5, f.chin*0.72, -2)
		f.fill(c)
	case Ponytail:
		s := f.side()
		f.dc.MoveTo(s*(w-3), -14)
		f.dc.CubicTo(s*(w+13+v), -22, s*(w+17+v), 16, s*(w+6), 40)
		f.dc.CubicTo(s*(w+4), 26, s*(w+2), 10, s*(w-3), 4)
		f.fill(c)
	case Pigtails:
		sides(func(s float64) {
			f.ellipse(s*(w+9+0.4*v), 2, 6+0.6*v, 11+v)
			f.fill(c)
		})
	case Bun:
		if f.hatted() {
			f.ellipse(f.side()*(w+3+0.4*v), 12, 7+0.6*v, 7+0.6*v)
		} else {
			f.ellipse(0, f.top-5.5-0.4*v, 8+0.6*v, 7.4+0.5*v)
		}
		f.fill(c)
	case Mohawk:
		f.crest()
	case Braids:
		sides(func(s float64) {
			for k := range 5 {
				f.ellipse(s*(w+1.5+0.3*float64(k)), 10+8*float64(k), 4.6+0.3*v, 5)
				f.fill(c)
			}
			f.ellipse(s*(w+2.7), 49, 3, 2.4)
			f.fill(hex(0xe8485e))
		})
	}
}

// side is the side of a parting or a ponytail.
func (f *figure) side() float64 {
	if f.id.HairSide {
		return -1
	}
	return 1
}

// drape is hair that falls from the crown to bottom on both sides, spreading there.
func (f *figure) drape(w, bottom, spread float64) {
	top := f.top - 0.8*f.volume
	f.dc.MoveTo(-w-spread, bottom-4)
	f.dc.CubicTo(-w-2, 10, -w-3, top, 0, top)
	f.dc.CubicTo(w+3, top, w+2, 10, w+spread, bottom-4)
	f.dc.QuadraticTo(w+spread, bottom, w+spread-7, bottom)
	f.dc.LineTo(-w-spread+7, bottom)
	f.dc.QuadraticTo(-w-spread, bottom, -w-spread, bottom-4)
}

// crest is the ridge of a mohawk, behind the head.
func (f *figure) crest() {
	h, w := 9+1.4*f.volume, 6+0.7*f.volume
	f.dc.MoveTo(-w, f.top+6)
	f.dc.CubicTo(-w-3, f.top-h*0.6, -w*0.7, f.top-h, 0, f.top-h-1)
	f.dc.CubicTo(w*0.7, f.top-h, w+3, f.top-h*0.6, w, f.top+6)
	f.fill(f.mane)
}

// hair draws the hair on the head.
func (f *figure) hair() {
	v := f.volume
	switch f.id.HairStyle {
	case Bald:
		f.ellipse(-f.half*0.36, f.top*0.72, 4.6, 2.6)
		f.paint(f.skin.light(0.3))
	case Cropped:
		f.cap(0.9, -3)
		f.fill(f.mane.mix(f.skin, 0.22))
	case Mohawk:
		w := 6 + 0.7*v
		f.dc.MoveTo(-w, f.top+1)
		f.dc.QuadraticTo(0, f.top-6, w, f.top+1)
		f.dc.QuadraticTo(w*0.6, f.line0()*0.95, 0, f.line0()+1)
		f.dc.QuadraticTo(-w*0.6, f.line0()*0.95, -w, f.top+1)
		f.fill(f.mane)
	case Spiky:
		if !f.hatted() {
			f.spikes()
		}
		f.cap(1.5, -3)
		f.fill(f.mane)
	case Afro, Curly:
		f.cap(1.5, 1)
		f.fill(f.mane)
		edge := f.edge
		f.edge = 0
		for k := range 7 {
			t := float64(k)/3 - 1
			f.ellipse(t*f.half*0.9, f.line0()-1+t*t*9, 4.6, 4.2)
		}
		f.fill(f.mane)
		f.edge = edge
	case Bun, Ponytail, Pigtails:
		f.cap(1+0.35*v, 0)
		f.fill(f.mane)
		if f.id.HairStyle != Bun && f.c.Headwear != Headphones {
			f.ties()
		}
	case Long, Wavy, Bob, Braids:
		f.cap(0.8*v, 7)
		f.fill(f.mane)
	default:
		f.cap(v, -1)
		f.fill(f.mane)
	}
}

// ties are the bands that hold tails.
func (f *figure) ties() {
	sides(func(s float64) {
		if f.id.HairStyle == Pigtails || s == f.side() {
			y := map[bool]float64{true: -6, false: -10}[f.id.HairStyle == Pigtails]
			f.ellipse(s*(f.half+1.5), y, 2.6, 3.2)
			f.fill(hex(0xe8485e))
		}
	})
}

// line0 is the height of the hairline in the middle.
func (f *figure) line0() float64 { return f.top + lerp(11, 5.5, f.id.HairHeight) }

// cap is the path of hair on the skull: grown outwards, down to bottom at the sides, with the identity's hairline.
func (f *figure) cap(grow, bottom float64) {
	f.around(f.top, bottom, grow, true)
	w, y := f.width(bottom), f.line0()
	x := f.half * 0.8
	f.dc.LineTo(w*0.95, bottom)
	switch s := f.side(); f.id.Hairline {
	case RoundHairline:
		f.dc.CubicTo(x+1, y+3, x*0.6, y, 0, y)
		f.dc.CubicTo(-x*0.6, y, -x-1, y+3, -w*0.95, bottom)
	case PeakHairline:
		f.dc.CubicTo(x+1, y-1, x*0.5, y-4.5, 0, y+3.5)
		f.dc.CubicTo(-x*0.5, y-4.5, -x-1, y-1, -w*0.95, bottom)
	case SideParting:
		f.parting(s*x*0.45, x, y, w, bottom)
	case MiddleParting:
		f.parting(0, x, y, w, bottom)
	case Fringe:
		f.dc.LineTo(x*0.98, -9.5)
		f.dc.QuadraticTo(0, -13, -x*0.98, -9.5)
		f.dc.LineTo(-w*0.95, bottom)
	}
	f.dc.ClosePath()
}

// parting continues cap's path with two sweeps that meet at (at, high on the forehead).
func (f *figure) parting(at, x, y, w, bottom float64) {
	high := y - 3
	f.dc.CubicTo(w*0.86, -7, lerp(at, x, 0.7), y+7, at, high)
	f.dc.CubicTo(lerp(at, -x, 0.7), y+7, -w*0.86, -7, -w*0.95, bottom)
}

func (f *figure) spikes() {
	const n = 6
	w, h := f.half*0.98, 8+1.2*f.volume
	f.dc.MoveTo(-w, f.top*0.28)
	for k := range n {
		a, b := math.Pi*(1-(float64(k)+0.5)/n), math.Pi*(1-float64(k+1)/n)
		f.dc.LineTo((w+h*0.75)*math.Cos(a), -(-f.top+h)*math.Sin(a)*0.98-2)
		f.dc.LineTo(w*math.Cos(b), f.top*0.28-(-f.top*0.74)*math.Sin(b))
	}
	f.dc.ClosePath()
	f.fill(f.mane)
}

package portraits

import "math"

func (f *figure) glasses() {
	if f.c.Glasses == NoGlasses {
		return
	}
	frame := hex(0x2a2630)
	r := 6.6
	sides(func(s float64) {
		f.dc.MoveTo(s*(f.eyeX()+r-1)+f.turn, -1.5)
		f.dc.LineTo(s*(f.half+0.5), -2)
		f.line(1.6, frame)
		x := s*f.eyeX() + f.turn
		if f.c.Glasses == PlainGlasses && f.style == PixelArt {
			f.pixelLens(x, frame)
			return
		}
		if f.c.Glasses == Sunglasses {
			f.dc.DrawRoundedRectangle(x-r-0.6, -5, 2*r+1.2, 11.4, 4.4)
			f.fill(hex(0x1b1b24))
			f.dc.MoveTo(x-r*0.5, 2.6)
			f.dc.LineTo(x+r*0.1, -2.6)
			if f.style == Illustration {
				f.line(1.4, hex(0x6a6a80))
			} else {
				f.dc.ClearPath()
			}
			return
		}
		f.ellipse(x, 0.4, r, r)
		f.line(1.7, frame)
	})
	f.arc(f.turn-f.eyeX()+r-0.3, -0.8, f.turn, -2.6, f.turn+f.eyeX()-r+0.3, -0.8)
	f.line(1.7, frame)
}

// hairRoom is how thick the hair is under a hat.
func (f *figure) hairRoom() float64 {
	switch f.id.HairStyle {
	case Bald, Mohawk, Cropped, Spiky:
		return 1
	case Afro:
		return 4
	}
	return 0.9*f.volume + 0.5
}

func (f *figure) headwear() {
	w, rim := f.half+0.8*f.hairRoom(), f.top+8.5
	switch f.c.Headwear {
	case Crown:
		f.crown(w*0.8, f.top+3)
	case Cap:
		f.dome(rim, 2.5)
		f.fill(hex(0xd8352f))
		f.dc.MoveTo(-w*0.55+f.turn*2, rim-2.5)
		f.dc.CubicTo(-w*0.3+f.turn*2, rim+6, w*0.9+f.turn*2, rim+6, w*1.12+f.turn*2, rim+0.5)
		f.dc.QuadraticTo(w*0.4, rim-5, -w*0.55+f.turn*2, rim-2.5)
		f.fill(hex(0xa11f25))
	case Beanie:
		f.ellipse(0, f.top-f.hairRoom()-5, 5, 5)
		f.fill(hex(0xf4f4ee))
		f.dome(rim, 3)
		f.fill(hex(0x2a9d6f))
		w = f.width(rim) + f.hairRoom() + 4
		f.dc.DrawRoundedRectangle(-w, rim-4, 2*w, 7.6, 3.4)
		f.fill(hex(0x1c7450))
	case WizardHat:
		f.dc.MoveTo(-w*0.86, rim)
		f.dc.QuadraticTo(-w*0.3, f.top-8, 5, -53)
		f.dc.QuadraticTo(w*0.45, f.top-6, w*0.86, rim)
		f.fill(hex(0x5b3cc4))
		f.ellipse(0, rim, w*1.32, 5)
		f.fill(hex(0x43299a))
		f.star(-1, f.top-4.5, 5)
		f.paint(hex(0xffd84a))
	case CowboyHat:
		f.dc.MoveTo(-w*0.74, rim)
		f.dc.CubicTo(-w*0.72, f.top-14, -w*0.35, f.top-16, 0, f.top-9)
		f.dc.CubicTo(w*0.35, f.top-16, w*0.72, f.top-14, w*0.74, rim)
		f.fill(hex(0xa8682f))
		f.dc.DrawRectangle(-w*0.745, rim-6, w*1.49, 4.5)
		f.paint(hex(0x5c3317))
		f.dc.MoveTo(-w*1.5, rim-7)
		f.dc.QuadraticTo(0, rim+1, w*1.5, rim-7)
		f.dc.CubicTo(w*1.3, rim+5, -w*1.3, rim+5, -w*1.5, rim-7)
		f.fill(hex(0x8a5122))
	case Headphones:
		f.headphones(w)
	case Flowers:
		f.flowers(w)
	}
}

// dome is the path of a hat that fits the skull and its hair, from the rim up.
func (f *figure) dome(rim, thick float64) {
	f.around(f.top, rim, f.hairRoom()+thick, true)
	f.dc.ClosePath()
}

func (f *figure) crown(w, y float64) {
	h := 14.0
	f.polygon(-w, y+2, -w*1.12, y-h, -w*0.52, y-h*0.45, 0, y-h*1.15, w*0.52, y-h*0.45, w*1.12, y-h, w, y+2)
	f.fill(hex(0xffc727))
	for k := range 3 {
		f.ellipse(float64(k-1)*w*0.6, y-2.5, 2.1, 2.1)
		f.paint([]ink{hex(0x2f7fe0), hex(0xe0354b), hex(0x2f7fe0)}[k])
	}
}

func (f *figure) star(x, y, r float64) {
	xy := make([]float64, 0, 20)
	for k := range 10 {
		l := r
		if k%2 == 1 {
			l = r * 0.45
		}
		a := math.Pi * (float64(k)/5 - 0.5)
		xy = append(xy, x+l*math.Cos(a), y+l*math.Sin(a))
	}
	f.polygon(xy...)
}

func (f *figure) headphones(w float64) {
	dark := hex(0x2b2f3a)
	f.dc.DrawEllipticalArc(0, 0, w+2.5, -f.top+f.volume+2, math.Pi, 2*math.Pi)
	f.line(4, dark)
	sides(func(s float64) {
		f.dc.DrawRoundedRectangle(s*(f.half+2.5)-4.8, -6.5, 9.6, 18, 4.6)
		f.fill(dark)
		f.dc.DrawRoundedRectangle(s*(f.half+4)-2, -3, 4, 11, 2)
		f.paint(hex(0x32c8d8))
	})
}

func (f *figure) flowers(w float64) {
	petals := []ink{hex(0xff7eb0), hex(0xfff4f4), hex(0xffb13c), hex(0xfff4f4), hex(0xff7eb0)}
	for k, c := range petals {
		a := math.Pi * (0.17 + 0.165*float64(k))
		x, y := -w*math.Cos(a), f.top+10-11*math.Sin(a)
		edge := f.edge
		f.edge *= 0.7
		for j := range 5 {
			b := 2 * math.Pi * float64(j) / 5
			f.ellipse(x+3.2*math.Cos(b), y+3.2*math.Sin(b), 2.9, 2.9)
		}
		f.fill(c)
		f.edge = edge
		f.ellipse(x, y, 2, 2)
		f.paint(hex(0xe8a31c))
	}
}

package portraits

import (
	"image"
	"math"
)

// side is the side of a cell of pixel art.
const side = 4

// dot is one cell of pixel art, counted from the picture's corner.
type dot struct {
	x, y int
	c    ink
}

// corner is the cell whose upper left corner is nearest to the point (x, y) of the drawing.
func (p *pen) corner(x, y float64) (int, int) {
	x, y = p.dc.TransformPoint(x, y)
	return int(math.Round(x / side)), int(math.Round(y / side))
}

// cells turns the picture into 32 × 32 flat cells: each takes the colour that fills most of it, dark ones counting more; dots last.
func cells(img *image.RGBA, dots []dot) {
	for y := 0; y < Size; y += side {
		for x := 0; x < Size; x += side {
			best, most := uint32(0), -1.0
			var seen [side * side]uint32
			for k := range seen {
				o := img.PixOffset(x+k%side, y+k/side)
				seen[k] = uint32(img.Pix[o])<<16 | uint32(img.Pix[o+1])<<8 | uint32(img.Pix[o+2])
			}
			for k, c := range seen {
				n := 0.0
				for _, other := range seen[k:] {
					if other == c {
						n++
					}
				}
				n *= 1.5 - 0.5*hex(c).luminance()
				if n > most {
					best, most = c, n
				}
			}
			setCell(img, x, y, best)
		}
	}
	for _, d := range dots {
		if (image.Point{d.x * side, d.y * side}).In(img.Rect) {
			setCell(img, d.x*side, d.y*side, d.c.packed())
		}
	}
}

// setCell fills the cell whose corner is the pixel (x, y) with rgb.
func setCell(img *image.RGBA, x, y int, rgb uint32) {
	for k := range side * side {
		o := img.PixOffset(x+k%side, y+k/side)
		img.Pix[o], img.Pix[o+1], img.Pix[o+2] = uint8(rgb>>16), uint8(rgb>>8), uint8(rgb)
	}
}

// pixelEye sets an eye of two or three cells by one or two, all irises to the same side.
func (f *figure) pixelEye(s, rx, ry float64, dark ink) {
	wide, high, iris := 2, 1, 0
	if f.c.Pose.Turn >= 0 {
		iris = 1
	}
	if rx > 4.8 {
		wide, iris = 3, 1
	}
	if ry > 3.5 {
		high = 2
	}
	x, y := f.corner(s*f.eyeX()+f.turn-float64(wide)*side/2/scale, -float64(high)*side/2/scale)
	for k := range wide * high {
		c := hex(0xffffff)
		if k%wide == iris {
			c = irises[f.id.EyeColor].dark(0.15)
			if f.id.EyeColor == BrownEyes { // darker than any skin
				c = c.dark(0.5)
			}
		}
		if f.c.Expression == Winking && s > 0 {
			if c = dark; k >= wide {
				continue
			}
		}
		f.dots = append(f.dots, dot{x + k%wide, y + k/wide, c})
	}
	if f.id.Lashes && s < 0 {
		f.dots = append(f.dots, dot{x - 1, y - 1, dark})
	} else if f.id.Lashes {
		f.dots = append(f.dots, dot{x + wide, y - 1, dark})
	}
}

// pixelMouth sets a mouth whose middle is (x, y), w wide to either side.
func (f *figure) pixelMouth(x, y, w float64, lip, dark ink) {
	n := int(math.Round(2 * w * scale / side))
	cx, cy := f.corner(x-float64(n)*side/2/scale, y-side/2/scale)
	line := dark.mix(lip, 0.3)
	row := func(from, to, below int, c ink) {
		for k := from; k < to; k++ {
			f.dots = append(f.dots, dot{cx + k, cy + below, c})
		}
	}
	white, tongue := hex(0xffffff), hex(0xf06a7e)
	switch f.c.Expression {
	case Smiling, Sad:
		bend := -1
		if f.c.Expression == Sad {
			bend = 1
		}
		row(0, n, 0, line)
		row(-1, 0, bend, line)
		row(n, n+1, bend, line)
	case Laughing:
		row(-1, n+1, -1, white)
		row(-1, n+1, 0, dark)
		row(0, n, 1, tongue)
	case Angry:
		row(0, n, -1, line)
		row(0, n, 0, white)
		row(0, n, 1, line)
	case Surprised:
		row(n/2-1, n/2+1, 0, dark)
		row(n/2-1, n/2+1, 1, dark)
	case Winking:
		row(0, n, 0, line)
		row(n, n+1, -1, line)
		row(n-2, n, 1, tongue)
	default:
		row(0, n, 0, line)
	}
	if f.id.Lips > 0.5 && (f.c.Expression == Neutral || f.c.Expression == Smiling) {
		row(1, n-1, 1, lip)
	}
}

// pixelLens sets the frame about an eye at x, open above where the brow is.
func (f *figure) pixelLens(x float64, frame ink) {
	const wide = 5
	cx, cy := f.corner(x-wide*side/2/scale, -1.5*side/scale)
	for k := range 3 {
		f.dots = append(f.dots, dot{cx, cy + k, frame}, dot{cx + wide - 1, cy + k, frame}, dot{cx + 1 + k, cy + 3, frame})
	}
}

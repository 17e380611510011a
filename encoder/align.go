package encoder

import (
	"image"
	"image/color"
	"image/draw"
	"math"

	"likeness/models/pixels"
)

// workingSide bounds the photo that faces are looked for in: larger ones are reduced by a whole factor first, to
// between this and twice this many pixels on the longer side.
const workingSide = 1024

// reduce averages blocks of factor × factor pixels of src over white, a strip of rows at a time; pixels left over on
// the right and below are dropped. The result starts at (0, 0).
func reduce(src image.Image, factor int) *image.RGBA {
	b := src.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, max(1, b.Dx()/factor), max(1, b.Dy()/factor)))
	strip := out
	if factor > 1 {
		strip = image.NewRGBA(image.Rect(0, 0, b.Dx(), factor))
	}
	rows := strip.Rect.Dy()
	mode := draw.Over
	if o, ok := src.(interface{ Opaque() bool }); ok && o.Opaque() {
		mode = draw.Src
	}
	for y := 0; y < out.Rect.Dy()*factor; y += rows {
		draw.Draw(strip, strip.Rect, image.NewUniform(color.White), image.Point{}, draw.Src)
		draw.Draw(strip, strip.Rect, src, b.Min.Add(image.Pt(0, y)), mode)
		if factor > 1 {
			average(out.Pix[y/factor*out.Stride:][:out.Stride], strip, factor)
		}
	}
	return out
}

// average writes one row: the means of the strip's blocks.
func average(row []uint8, strip *image.RGBA, factor int) {
	n := factor * factor
	for x := range len(row) / 4 {
		var r, g, b int
		for dy := range factor {
			p := strip.Pix[dy*strip.Stride+4*x*factor:][:4*factor]
			for i := 0; i < len(p); i += 4 {
				r, g, b = r+int(p[i]), g+int(p[i+1]), b+int(p[i+2])
			}
		}
		row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = uint8((r+n/2)/n), uint8((g+n/2)/n), uint8((b+n/2)/n), 255
	}
}

// similarity maps a point (x, y) of a square cut-out, in pixels, to the photo: x·(a, b) + y·(-b, a) + (x0, y0).
type similarity struct{ a, b, x0, y0 float64 }

func (s similarity) at(x, y float64) (float64, float64) {
	return s.x0 + s.a*x - s.b*y, s.y0 + s.b*x + s.a*y
}

// inverse is the point of the cut-out that lies at (x, y) in the photo.
func (s similarity) inverse(x, y float64) (float64, float64) {
	x, y, square := x-s.x0, y-s.y0, s.a*s.a+s.b*s.b
	return (x*s.a + y*s.b) / square, (y*s.a - x*s.b) / square
}

// scale is how many pixels of the photo one of the cut-out spans.
func (s similarity) scale() float64 { return math.Hypot(s.a, s.b) }

// near tells whether each corner of the cut-outs lies within a share of the side from the other's.
func (s similarity) near(o similarity, size int, share float64) bool {
	for i := range 4 {
		x, y := s.at(float64(i%2*size), float64(i/2*size))
		ox, oy := o.at(float64(i%2*size), float64(i/2*size))
		if math.Hypot(x-ox, y-oy) > share*float64(size)*o.scale() {
			return false
		}
	}
	return true
}

// bounds is the smallest rectangle around the cut-out in the photo.
func (s similarity) bounds(size int) image.Rectangle {
	var r image.Rectangle
	for i := range 4 {
		x, y := s.at(float64(i%2*size), float64(i/2*size))
		px := image.Rect(int(x), int(y), int(x)+1, int(y)+1)
		r = r.Union(px)
	}
	return r
}

// centred cuts the largest square at the centre of r to size pixels.
func centred(r image.Rectangle, size int) similarity {
	return square(r, size, float64(min(r.Dx(), r.Dy())))
}

// letterboxed cuts the smallest square around r to size pixels.
func letterboxed(r image.Rectangle, size int) similarity {
	return square(r, size, float64(max(r.Dx(), r.Dy())))
}

func square(r image.Rectangle, size int, side float64) similarity {
	x, y := float64(r.Min.X+r.Max.X)/2, float64(r.Min.Y+r.Max.Y)/2
	return similarity{a: side / float64(size), x0: x - side/2, y0: y - side/2}
}

// warp cuts size × size pixels out of img, whose Rect starts at (0, 0). What lies outside repeats the border.
func warp(img *image.RGBA, s similarity, size int) *image.RGBA {
	if factor := int(s.scale()); factor > 1 {
		part := s.bounds(size).Inset(-2 * factor).Intersect(img.Rect)
		if part.Empty() {
			part = img.Rect
		}
		img = reduce(img.SubImage(part), factor)
		f := float64(factor)
		s = similarity{s.a / f, s.b / f, (s.x0 - float64(part.Min.X)) / f, (s.y0 - float64(part.Min.Y)) / f}
	}
	out := image.NewRGBA(image.Rect(0, 0, size, size))
	if s.scale() == 1 && s.b == 0 && s.x0 == math.Trunc(s.x0) && s.y0 == math.Trunc(s.y0) {
		copyClamped(out, img, int(s.x0), int(s.y0))
		return out
	}
	const n = 2 // n × n bilinear samples for each pixel
	for y := range size {
		for x := range size {
			var sum [3]float32
			for i := range n * n {
				px, py := s.at(float64(x)+(float64(i%n)+0.5)/n, float64(y)+(float64(i/n)+0.5)/n)
				c := bilinear(img, float32(px-0.5), float32(py-0.5))
				sum[0], sum[1], sum[2] = sum[0]+c[0], sum[1]+c[1], sum[2]+c[2]
			}
			p := out.Pix[y*out.Stride+4*x:]
			for c := range sum {
				p[c] = uint8(sum[c]/(n*n) + 0.5)
			}
			p[3] = 255
		}
	}
	return out
}

// shrink resizes img, whose Rect starts at (0, 0), until its shorter side is size pixels, or enlarges it, and cuts the square at its centre.
func shrink(img *image.RGBA, size int) *image.RGBA {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	if w < h {
		w, h = size, size*h/w
	} else {
		w, h = size*w/h, size
	}
	left, top := (w-size)/2, (h-size)/2
	cut := pixels.Resize(img, w, h, image.Rect(left, top, left+size, top+size))
	cut.Rect = cut.Rect.Sub(cut.Rect.Min)
	return cut
}

// copyClamped fills out with the pixels of img from (x0, y0) on, unchanged.
func copyClamped(out, img *image.RGBA, x0, y0 int) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	for y := range out.Rect.Dy() {
		from := img.Pix[min(max(y0+y, 0), h-1)*img.Stride:]
		to := out.Pix[y*out.Stride:]
		for x := range out.Rect.Dx() {
			copy(to[4*x:4*x+4], from[4*min(max(x0+x, 0), w-1):])
		}
	}
}

// bilinear is the colour of img at (x, y), where whole numbers are the centres of pixels.
func bilinear(img *image.RGBA, x, y float32) [3]float32 {
	w, h := img.Rect.Dx()-1, img.Rect.Dy()-1
	x, y = min(max(x, 0), float32(w)), min(max(y, 0), float32(h))
	x0, y0 := int(x), int(y)
	x1, y1 := min(x0+1, w), min(y0+1, h)
	fx, fy := x-float32(x0), y-float32(y0)
	p00, p10 := img.Pix[y0*img.Stride+4*x0:][:3], img.Pix[y0*img.Stride+4*x1:][:3]
	p01, p11 := img.Pix[y1*img.Stride+4*x0:][:3], img.Pix[y1*img.Stride+4*x1:][:3]
	var c [3]float32
	for i := range c {
		top := float32(p00[i]) + fx*(float32(p10[i])-float32(p00[i]))
		bottom := float32(p01[i]) + fx*(float32(p11[i])-float32(p01[i]))
		c[i] = top + fy*(bottom-top)
	}
	return c
}

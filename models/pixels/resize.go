package pixels

import (
	"image"
	"math"
)

// Resize scales an opaque picture with Keys' cubic kernel, widened where it shrinks, to the byte as Pillow's Image.resize with BICUBIC does:
// first along rows, then along columns, each rounded to bytes, with weights in 22-bit fixed point. (Where one side grows and the other shrinks,
// Pillow takes the other order.) Image encoders were trained on such pictures.
// Only part of the scaled picture, which it must lie in, is made; the result has part's bounds.
func Resize(img *image.RGBA, width, height int, part image.Rectangle) *image.RGBA {
	size := img.Rect.Size()
	rows := image.NewRGBA(image.Rect(part.Min.X, 0, part.Max.X, size.Y))
	for x := part.Min.X; x < part.Max.X; x++ {
		w := weigh(size.X, width, x)
		for y := range size.Y {
			from := img.Pix[img.PixOffset(img.Rect.Min.X+w.start, img.Rect.Min.Y+y):]
			w.sum(rows.Pix[rows.PixOffset(x, y):], from, 4)
		}
	}
	out := image.NewRGBA(part)
	for y := part.Min.Y; y < part.Max.Y; y++ {
		w := weigh(size.Y, height, y)
		for x := part.Min.X; x < part.Max.X; x++ {
			w.sum(out.Pix[out.PixOffset(x, y):], rows.Pix[rows.PixOffset(x, w.start):], rows.Stride)
		}
	}
	return out
}

// fraction is the count of bits after the point of a weight.
const fraction = 22

// weights are what one pixel takes of a row of pixels from start on.
type weights struct {
	start int
	of    []int
}

// weigh gives the pixel at i of to pixels its weights of from pixels.
func weigh(from, to, i int) weights {
	scale := float64(from) / float64(to)
	wide := max(scale, 1)
	centre := (float64(i) + 0.5) * scale
	start, end := max(int(centre-2*wide+0.5), 0), min(int(centre+2*wide+0.5), from)
	exact, total := make([]float64, end-start), 0.0
	for j := range exact {
		exact[j] = cubic((float64(start+j) - centre + 0.5) / wide)
		total += exact[j]
	}
	w := weights{start, make([]int, len(exact))}
	for j, v := range exact {
		w.of[j] = int(math.Round(v / total * (1 << fraction)))
	}
	return w
}

// cubic is Keys' kernel (1981) with a = -1/2, Catmull-Rom's.
func cubic(x float64) float64 {
	switch x = math.Abs(x); {
	case x < 1:
		return (1.5*x-2.5)*x*x + 1
	case x < 2:
		return ((-0.5*x+2.5)*x-4)*x + 2
	}
	return 0
}

// sum writes a pixel, of those that lie step bytes from each other in from.
func (w weights) sum(pixel, from []uint8, step int) {
	sums := [3]int{1 << (fraction - 1), 1 << (fraction - 1), 1 << (fraction - 1)}
	for i, factor := range w.of {
		at := from[i*step : i*step+3]
		sums[0] += factor * int(at[0])
		sums[1] += factor * int(at[1])
		sums[2] += factor * int(at[2])
	}
	for c, v := range sums {
		pixel[c] = uint8(min(max(v>>fraction, 0), 255))
	}
	pixel[3] = 255
}

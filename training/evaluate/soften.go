package evaluate

import (
	"math/rand/v2"

	"likeness/training/portraits"
)

// soften changes planes [3, Size, Size] as a small generative model does: blur, noise, other light, a small shift. A judge that had only
// seen crisp pictures would judge the softness of made ones instead of what they show.
func soften(planes []float32, r *rand.Rand) {
	const n = portraits.Size * portraits.Size
	scratch := make([]float32, n)
	blurs := max(0, r.IntN(7)-2)
	dx, dy := r.IntN(7)-3, r.IntN(7)-3
	light, contrast, noise := 0.2*(r.Float32()-0.5), 0.85+0.3*r.Float32(), 0.1*r.Float32()*r.Float32()
	for c := range 3 {
		plane := planes[c*n : (c+1)*n]
		shift(scratch, plane, dx, dy)
		copy(plane, scratch)
		for range blurs {
			blur(plane, scratch)
		}
		tint := light + 0.08*(r.Float32()-0.5)
		for i, v := range plane {
			plane[i] = max(-1, min(1, contrast*v+tint+noise*(4*r.Float32()-2)))
		}
	}
}

// shift moves src by dx and dy into dst; the border is repeated.
func shift(dst, src []float32, dx, dy int) {
	const side = portraits.Size
	for y := range side {
		row := src[min(max(y-dy, 0), side-1)*side:][:side]
		for x := range side {
			dst[y*side+x] = row[min(max(x-dx, 0), side-1)]
		}
	}
}

// blur filters a plane with the binomial kernel [1 2 1]⊗[1 2 1]/16; the border is repeated.
func blur(plane, scratch []float32) {
	const side = portraits.Size
	for y := range side {
		row, out := plane[y*side:][:side], scratch[y*side:][:side]
		for x := range side {
			out[x] = 0.25*row[max(x-1, 0)] + 0.5*row[x] + 0.25*row[min(x+1, side-1)]
		}
	}
	for y := range side {
		above, row, below := scratch[max(y-1, 0)*side:][:side], scratch[y*side:][:side], scratch[min(y+1, side-1)*side:][:side]
		out := plane[y*side:][:side]
		for x := range side {
			out[x] = 0.25*above[x] + 0.5*row[x] + 0.25*below[x]
		}
	}
}

package evaluate

import (
	"image"
	"image/draw"
	"math"
)

// plane is a picture's luminance, 0 to 255.
type plane struct {
	w, h   int
	values []float64
}

func luminance(p image.Image) plane {
	size := p.Bounds().Size()
	grey := image.NewGray(image.Rectangle{Max: size})
	draw.Draw(grey, grey.Rect, p, p.Bounds().Min, draw.Src)
	l := plane{size.X, size.Y, make([]float64, size.X*size.Y)}
	for i := range l.values {
		l.values[i] = float64(grey.Pix[i/l.w*grey.Stride+i%l.w])
	}
	return l
}

// by is the product of two planes, place by place.
func (p plane) by(o plane) plane {
	out := plane{p.w, p.h, make([]float64, len(p.values))}
	for i, v := range p.values {
		out.values[i] = v * o.values[i]
	}
	return out
}

// halved averages squares of 2×2; an odd row or column is left out.
func (p plane) halved() plane {
	out := plane{p.w / 2, p.h / 2, make([]float64, (p.w/2)*(p.h/2))}
	for i := range out.values {
		at := 2*(i/out.w)*p.w + 2*(i%out.w)
		out.values[i] = (p.values[at] + p.values[at+1] + p.values[at+p.w] + p.values[at+p.w+1]) / 4
	}
	return out
}

// The window of SSIM: a Gaussian, as in Wang et al. 2004, section III.B.
const (
	windowSide  = 11
	windowSigma = 1.5
)

// windowed is the mean over the window at each place where it lies within the plane. Planes smaller than the window have a smaller one of
// the same form.
func (p plane) windowed() plane {
	n := min(windowSide, p.w, p.h)
	weights, sum := make([]float64, n), 0.0
	for i := range weights {
		x := (float64(i) - float64(n-1)/2) / (windowSigma * float64(n) / windowSide)
		weights[i] = math.Exp(-x * x / 2)
		sum += weights[i]
	}
	rows := plane{p.w - n + 1, p.h, make([]float64, (p.w-n+1)*p.h)}
	for i := range rows.values {
		for k, weight := range weights {
			rows.values[i] += weight / sum * p.values[i/rows.w*p.w+i%rows.w+k]
		}
	}
	out := plane{rows.w, p.h - n + 1, make([]float64, rows.w*(p.h-n+1))}
	for i := range out.values {
		for k, weight := range weights {
			out.values[i] += weight / sum * rows.values[i+k*rows.w]
		}
	}
	return out
}

// structure compares two planes of one size: whole is the mean of SSIM (Wang et al. 2004, Image Quality Assessment: From Error Visibility to
// Structural Similarity, equation 13), contrast that of its part without the means' comparison.
func structure(a, b plane) (whole, contrast float64) {
	const c1, c2 = (0.01 * 255) * (0.01 * 255), (0.03 * 255) * (0.03 * 255)
	ma, mb := a.windowed(), b.windowed()
	aa, bb, ab := a.by(a).windowed(), b.by(b).windowed(), a.by(b).windowed()
	for i, x := range ma.values {
		y := mb.values[i]
		cs := (2*(ab.values[i]-x*y) + c2) / (aa.values[i] - x*x + bb.values[i] - y*y + c2)
		contrast += cs
		whole += cs * (2*x*y + c1) / (x*x + y*y + c1)
	}
	n := float64(len(ma.values))
	return whole / n, contrast / n
}

// ssim is the structural similarity of two pictures of one size, -1 to 1.
func ssim(a, b image.Image) float64 {
	whole, _ := structure(luminance(a), luminance(b))
	return whole
}

// scaleWeights are the exponents of MS-SSIM's five scales, the finest first (Wang, Simoncelli and Bovik 2003, section 4).
var scaleWeights = [5]float64{0.0448, 0.2856, 0.3001, 0.2363, 0.1333}

// multiscale is MS-SSIM of two pictures of one size (equation 7 there), 0 to 1; a scale on which the pictures are each other's opposite
// counts as unlike.
func multiscale(a, b image.Image) float64 {
	x, y, product := luminance(a), luminance(b), 1.0
	for i, weight := range scaleWeights {
		whole, contrast := structure(x, y)
		if i < len(scaleWeights)-1 {
			whole = contrast
			x, y = x.halved(), y.halved()
		}
		product *= math.Pow(max(whole, 0), weight)
	}
	return product
}

// diversity is the mean distance of the pairs of pictures, 1 - MS-SSIM: 0 for one picture many times, near 1 for pictures that have nothing
// in common. Odena et al. 2017 (AC-GAN, section 4.2) judge the variety of generated pictures by it; DreamBooth's DIV (Ruiz et al. 2023)
// is the same mean over LPIPS.
func diversity(pictures []image.Image) float64 {
	sum, pairs := 0.0, 0
	for i := range pictures {
		for j := range i {
			sum += 1 - multiscale(pictures[i], pictures[j])
			pairs++
		}
	}
	return sum / float64(max(pairs, 1))
}

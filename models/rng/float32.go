package rng

import "math"

// The float32 log, sin and cos of Cephes (Moshier 1989), evaluated with fused multiply-adds where compilers contract
// the AVX2 code that PyTorch uses: other roundings would change last bits.

// fma is x·y + z rounded once to float32. The product is exact in float64; the sum is rounded to odd there, which
// makes the second rounding harmless (Boldo and Melquiond 2008).
func fma(x, y, z float32) float32 {
	p, c := float64(x)*float64(y), float64(z)
	s := p + c
	t := s - p
	lost := (p - (s - t)) + (c - t)
	if bits := math.Float64bits(s); lost != 0 && bits&1 == 0 {
		if lost > 0 == (s > 0) {
			bits++
		} else {
			bits--
		}
		s = math.Float64frombits(bits)
	}
	return float32(s)
}

// horner evaluates a polynomial, highest coefficient first.
func horner(x float32, coefficients ...float32) float32 {
	y := coefficients[0]
	for _, c := range coefficients[1:] {
		y = fma(y, x, c)
	}
	return y
}

// log32 is the natural logarithm of a positive normal number.
func log32(x float32) float32 {
	bits := math.Float32bits(x)
	e := float32(int32(bits>>23)-127) + 1
	x = math.Float32frombits(bits&0x007fffff | 0x3f000000) // in [0.5, 1)
	if x < math.Sqrt2/2 {
		e--
		x += x - 1
	} else {
		x--
	}
	z := x * x
	y := x * horner(x,
		7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
		-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
	y = fma(y, z, float32(e*-2.12194440e-4)) // log 2 in two parts
	y = fma(-0.5, z, y)
	return fma(e, 0.693359375, x+y)
}

// sincos32 gives the sine and cosine of x in [0, 8192).
func sincos32(x float32) (sin, cos float32) {
	octant := (int32(x*(4/math.Pi)) + 1) &^ 1
	y := float32(octant)
	x = fma(y, -0.78515625, x) // π/4 in three parts
	x = fma(y, -2.4187564849853515625e-4, x)
	x = fma(y, -3.77489497744594108e-8, x)
	z := x * x
	c := z * horner(z, 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
	c = fma(c, z, -0.5*z) + 1
	s := z * horner(z, -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
	s = fma(s, x, x)
	switch octant & 6 {
	case 0:
		return s, c
	case 2:
		return c, -s
	case 4:
		return -s, -c
	}
	return -c, s
}

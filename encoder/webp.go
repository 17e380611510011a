package encoder

import (
	"image"

	_ "golang.org/x/image/webp" // a format intake reads
)

// animated tells whether a WebP says in its extended header (VP8X) that it is an animation, which the decoder takes for damage.
func animated(webp []byte) bool {
	const flags, animation = 20, 2
	return len(webp) > flags && string(webp[12:16]) == "VP8X" && webp[flags]&animation != 0
}

// fullRange corrects the colours of a decoded lossy WebP in place. VP8 keeps luma in 16…235 and chroma in 16…240
// (RFC 6386, §9.2, BT.601), while image.YCbCr means JPEG's full range, and the decoder does not convert.
func fullRange(decoded image.Image) {
	switch img := decoded.(type) {
	case *image.YCbCr:
		stretch(img.Y, 16, 219, 0)
		stretch(img.Cb, 128, 224, 128)
		stretch(img.Cr, 128, 224, 128)
	case *image.NYCbCrA:
		fullRange(&img.YCbCr)
	}
}

// stretch maps each v to (v - from)·255/span + to, kept in 0…255.
func stretch(plane []uint8, from, span, to int) {
	var table [256]uint8
	for v := range table {
		table[v] = uint8(min(max(((v-from)*510+span)/(2*span)+to, 0), 255))
	}
	for i, v := range plane {
		plane[i] = table[v]
	}
}

package encoder

import (
	"bytes"
	"image"

	"github.com/bep/imagemeta"
)

// orientation returns the EXIF orientation of a JPEG, PNG or WebP file, or 1 (upright) if it names none.
func orientation(data []byte) int {
	formats := map[string]imagemeta.ImageFormat{"JPEG": imagemeta.JPEG, "PNG": imagemeta.PNG, "WebP": imagemeta.WebP}
	found := 1
	// Metadata that cannot be read says nothing of the pixels, so an error leaves the photo as it is.
	_, _ = imagemeta.Decode(imagemeta.Options{
		R:               bytes.NewReader(data),
		ImageFormat:     formats[sniff(data)],
		Sources:         imagemeta.EXIF,
		ShouldHandleTag: func(t imagemeta.TagInfo) bool { return t.Namespace == "IFD0" && t.Tag == "Orientation" },
		HandleTag: func(t imagemeta.TagInfo) error {
			if v, ok := t.Value.(uint16); ok && 1 <= v && v <= 8 {
				found = int(v)
			}
			return imagemeta.ErrStopWalking
		},
	})
	return found
}

// upright turns and mirrors img from EXIF orientation o: 1 as is, 2 mirrored, 3 half a turn, 4 mirrored upside down,
// 5 and 7 transposed, 6 and 8 quarter turns (EXIF 2.32, tag 0x0112).
func upright(img *image.RGBA, o int) *image.RGBA {
	if o < 2 || o > 8 {
		return img
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	outW, outH := w, h
	if o >= 5 {
		outW, outH = h, w
	}
	out := image.NewRGBA(image.Rect(0, 0, outW, outH))
	for y := range outH {
		for x := range outW {
			sx, sy := x, y
			if o >= 5 {
				sx, sy = y, x
			}
			if o == 2 || o == 3 || o == 7 || o == 8 {
				sx = w - 1 - sx
			}
			if o == 3 || o == 4 || o == 6 || o == 7 {
				sy = h - 1 - sy
			}
			copy(out.Pix[4*(y*outW+x):][:4], img.Pix[sy*img.Stride+4*sx:])
		}
	}
	return out
}

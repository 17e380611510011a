// Package pixels converts between pictures and the planes that networks read: [3, H, W], red, green and blue in -1..1.
package pixels

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
)

// Planes writes an opaque picture into dst [3, H, W]. dst must hold 3·H·W values.
func Planes(dst []float32, img *image.RGBA) {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	n := w * h
	_ = dst[3*n-1]
	for y := range h {
		row := img.Pix[img.PixOffset(img.Rect.Min.X, img.Rect.Min.Y+y):]
		for x := range w {
			i := y*w + x
			dst[i] = float32(row[4*x])/127.5 - 1
			dst[n+i] = float32(row[4*x+1])/127.5 - 1
			dst[2*n+i] = float32(row[4*x+2])/127.5 - 1
		}
	}
}

// Image makes a picture of planes [3, H, W]; values outside -1..1 are clamped.
func Image(planes []float32, w, h int) (*image.NRGBA, error) {
	n := w * h
	if len(planes) != 3*n {
		return nil, fmt.Errorf("%d values for three planes of %d×%d", len(planes), w, h)
	}
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range n {
		img.SetNRGBA(i%w, i/w, color.NRGBA{quantise(planes[i]), quantise(planes[n+i]), quantise(planes[2*n+i]), 255})
	}
	return img, nil
}

func quantise(v float32) uint8 {
	switch v = (v + 1) * 127.5; {
	case !(v > 0): // NaN as well
		return 0
	case v >= 255:
		return 255
	}
	return uint8(v + 0.5)
}

// Grid lays equal pictures out in rows of the given number of columns.
func Grid(pictures []image.Image, columns int) *image.RGBA {
	if len(pictures) == 0 {
		return image.NewRGBA(image.Rectangle{})
	}
	size := pictures[0].Bounds().Size()
	rows := (len(pictures) + columns - 1) / columns
	grid := image.NewRGBA(image.Rect(0, 0, columns*size.X, rows*size.Y))
	for i, p := range pictures {
		at := image.Pt(i%columns*size.X, i/columns*size.Y)
		for y := range size.Y {
			for x := range size.X {
				grid.Set(at.X+x, at.Y+y, p.At(p.Bounds().Min.X+x, p.Bounds().Min.Y+y))
			}
		}
	}
	return grid
}

// WritePNG writes a picture to a file, whole or not at all.
func WritePNG(path string, img image.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

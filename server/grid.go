package main

import (
	"image"
	"image/color"
	"image/draw"
	"math"
)

// gap is the white between the pictures of a grid, in pixels.
const gap = 4

// grid puts pictures of one size into rows, as near to a square as they go.
func grid(pictures []*image.NRGBA) *image.NRGBA {
	columns := int(math.Ceil(math.Sqrt(float64(len(pictures)))))
	rows := (len(pictures) + columns - 1) / columns
	size := pictures[0].Bounds().Size().Add(image.Pt(gap, gap))
	all := image.NewNRGBA(image.Rect(0, 0, columns*size.X-gap, rows*size.Y-gap))
	draw.Draw(all, all.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	for i, picture := range pictures {
		at := image.Pt(i%columns*size.X, i/columns*size.Y)
		draw.Draw(all, picture.Bounds().Sub(picture.Bounds().Min).Add(at), picture, picture.Bounds().Min, draw.Src)
	}
	return all
}

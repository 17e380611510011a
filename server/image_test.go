package main

import (
	"image"
	"image/color"
	"image/png"
	"likeness/models/pixels"
	"os"
	"path/filepath"
	"testing"
)

func writeTestPNG(t *testing.T, name string, img image.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := pixels.WritePNG(path, img); err != nil {
		t.Fatal(err)
	}
	return path
}

// The command line redraws the masked part of a picture and leaves the rest as it is.
func TestGenerateFromImage(t *testing.T) {
	picture, mask := image.NewNRGBA(image.Rect(0, 0, 96, 64)), image.NewGray(image.Rect(0, 0, 96, 64))
	hole := image.Rect(32, 16, 64, 48)
	for y := range 64 {
		for x := range 96 {
			picture.SetNRGBA(x, y, color.NRGBA{uint8(2 * x), uint8(3 * y), 77, 255})
			if (image.Point{x, y}).In(hole) {
				mask.SetGray(x, y, color.Gray{255})
			}
		}
	}
	dir := t.TempDir()
	out := filepath.Join(dir, "out.png")
	args := []string{"generate", "--model", tinySD, "--prompt", "a cat", "--steps", "4", "--seed", "2", "-o", out, "--image", writeTestPNG(t, "picture.png", picture)}
	masked := append(args, "--mask", writeTestPNG(t, "mask.png", mask))
	if err := run(t, masked...); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := png.Decode(file)
	if err != nil || got.Bounds() != picture.Rect {
		t.Fatal(got.Bounds(), err)
	}
	changed := 0
	for y := range 64 {
		for x := range 96 {
			same := color.NRGBAModel.Convert(got.At(x, y)) == color.Color(picture.NRGBAAt(x, y))
			if inside := (image.Point{x, y}).In(hole); !inside && !same {
				t.Fatalf("the pixel at %d, %d is %v", x, y, got.At(x, y))
			} else if inside && !same {
				changed++
			}
		}
	}
	if changed < 500 {
		t.Errorf("%d pixels under the mask changed", changed)
	}
	if err := run(t, append(args, "--strength", "0.5", "--size", "64x64")...); err != nil {
		t.Fatal(err)
	}
	if w, h := readPNG(t, out); w != 64 || h != 64 {
		t.Errorf("%d×%d", w, h)
	}
	wantError(t, run(t, append(args, "--strength", "1.5")...), "strength 1.5")
	wantError(t, run(t, append(args, "--size", "60x60")...), "multiple of 16")
	wantError(t, run(t, append(args, "--mask", filepath.Join(dir, "none.png"))...), "none.png")
	wantError(t, run(t, append(args, "--mask", writeTestPNG(t, "small.png", image.NewGray(image.Rect(0, 0, 8, 8))))...), "mask has 8×8 pixels")
	wantError(t, run(t, "generate", "--model", tinySD, "--prompt", "a cat", "--strength", "0.5"), "without an image")
}

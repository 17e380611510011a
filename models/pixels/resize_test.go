package pixels_test

import (
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"likeness/models/pixels"
	"likeness/models/safetensors"
)

// open reads one of the pictures that scripts/golden/ipadapter.py draws.
func open(t *testing.T, name string) *image.RGBA {
	t.Helper()
	f, err := os.Open(filepath.Join("../ipadapter/testdata", name+".png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	decoded, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewRGBA(decoded.Bounds())
	draw.Draw(img, img.Rect, decoded, img.Rect.Min, draw.Src)
	return img
}

// Every byte is Pillow's: of smaller, larger, distorted and unchanged pictures, and of a part of one.
func TestResize(t *testing.T) {
	file, err := safetensors.Open("testdata/resized.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if len(file.Names()) < 5 {
		t.Fatal(file.Names())
	}
	for _, name := range file.Names() {
		want, err := file.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		img := open(t, name[:4])
		whole := image.NewRGBA(img.Rect.Inset(-3))
		draw.Draw(whole, img.Rect, img, image.Point{}, draw.Src)
		for kind, from := range map[string]*image.RGBA{"whole": img, "part": whole.SubImage(img.Rect).(*image.RGBA)} {
			got := pixels.Resize(from, want.Shape[1], want.Shape[0], image.Rect(0, 0, want.Shape[1], want.Shape[0]))
			if size := fmt.Sprintf("%s_%dx%d", name[:4], got.Rect.Dx(), got.Rect.Dy()); size != name || !got.Opaque() {
				t.Errorf("%s: got %s, opaque %v", name, size, got.Opaque())
			}
			wrong := 0
			for i, v := range want.Data {
				if got.Pix[i/3*4+i%3] != v {
					wrong++
				}
			}
			if wrong > 0 {
				t.Errorf("%s, %s: %d of %d values differ", name, kind, wrong, len(want.Data))
			}
			cut := image.Rect(3, 5, 17, 27)
			if part := pixels.Resize(from, want.Shape[1], want.Shape[0], cut); part.Rect != cut || !same(part, got) {
				t.Errorf("%s, %s: a part is not that of the whole", name, kind)
			}
		}
	}
}

// same tells whether part is what the whole shows there.
func same(part, whole *image.RGBA) bool {
	for y := part.Rect.Min.Y; y < part.Rect.Max.Y; y++ {
		for x := part.Rect.Min.X; x < part.Rect.Max.X; x++ {
			if part.RGBAAt(x, y) != whole.RGBAAt(x, y) {
				return false
			}
		}
	}
	return true
}

package encoder

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"testing"
)

var (
	red, green = color.RGBA{200, 0, 0, 255}, color.RGBA{0, 200, 0, 255}
	blue, grey = color.RGBA{0, 0, 200, 255}, color.RGBA{120, 120, 120, 255}
)

// paint fills each quarter of a picture: top left, top right, bottom left, bottom right.
func paint(w, h int, corners [4]color.RGBA) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for i, c := range corners {
		x, y := i%2*w/2, i/2*h/2
		draw.Draw(img, image.Rect(x, y, x+w/2, y+h/2), image.NewUniform(c), image.Point{}, draw.Src)
	}
	return img
}

func quadrants(w, h int) *image.RGBA { return paint(w, h, [4]color.RGBA{red, green, blue, grey}) }

// exifBlock is a TIFF structure whose one tag is Orientation.
func exifBlock(o int) []byte {
	b := append([]byte("II*\x00"), 8, 0, 0, 0, 1, 0)
	for _, v := range []uint16{0x0112, 3} {
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	for _, v := range []uint32{1, uint32(o), 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func jpegWithOrientation(t testing.TB, img image.Image, o int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	segment := append([]byte("Exif\x00\x00"), exifBlock(o)...)
	app1 := binary.BigEndian.AppendUint16([]byte{0xff, 0xe1}, uint16(len(segment)+2))
	out := append(bytes.Clone(b.Bytes()[:2]), append(app1, segment...)...)
	return append(out, b.Bytes()[2:]...)
}

// pngWithOrientation puts an eXIf chunk behind the header.
func pngWithOrientation(t testing.TB, img image.Image, o int) []byte {
	t.Helper()
	const header = 8 + 25
	data := encodePNG(t, img)
	out := append(bytes.Clone(data[:header]), pngChunk(append([]byte("eXIf"), exifBlock(o)...))...)
	return append(out, data[header:]...)
}

// TestOrientation stores a picture as EXIF's table of orientations says it may be stored, and reads it upright.
func TestOrientation(t *testing.T) {
	corner := map[string]color.RGBA{"top left": red, "top right": green, "bottom left": blue, "bottom right": grey}
	opposite := map[string]string{"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
	at := func(a, b string) color.RGBA {
		if a == "left" || a == "right" {
			a, b = b, a
		}
		return corner[a+" "+b]
	}
	for i, s := range []struct{ row0, col0 string }{ // the visual side of the stored first row, and first column
		{"top", "left"}, {"top", "right"}, {"bottom", "right"}, {"bottom", "left"},
		{"left", "top"}, {"right", "top"}, {"right", "bottom"}, {"left", "bottom"},
	} {
		o := i + 1
		w, h := 96, 64
		if o >= 5 {
			w, h = h, w
		}
		stored := paint(w, h, [4]color.RGBA{
			at(s.row0, s.col0), at(s.row0, opposite[s.col0]),
			at(opposite[s.row0], s.col0), at(opposite[s.row0], opposite[s.col0]),
		})
		for name, data := range map[string][]byte{"jpeg": jpegWithOrientation(t, stored, o), "png": pngWithOrientation(t, stored, o)} {
			if got := orientation(data); got != o {
				t.Errorf("%s: orientation %d read as %d", name, o, got)
			}
			photo, err := NewIntake(IntakeConfig{Size: 32}).Read(t.Context(), data)
			if err != nil {
				t.Fatal(err)
			}
			for place, want := range map[image.Point]color.RGBA{{6, 6}: red, {25, 6}: green, {6, 25}: blue, {25, 25}: grey} {
				if c := photo.Image.RGBAAt(place.X, place.Y); !near(c, want) {
					t.Errorf("%s: orientation %d: %v at %v, want %v", name, o, c, place, want)
				}
			}
		}
		if got := upright(stored, o).Rect; got != image.Rect(0, 0, 96, 64) {
			t.Errorf("orientation %d: upright picture is %v", o, got)
		}
	}
}

func near(a, b color.RGBA) bool {
	close := func(x, y uint8) bool { return max(x, y)-min(x, y) < 12 }
	return close(a.R, b.R) && close(a.G, b.G) && close(a.B, b.B)
}

func TestNoOrientation(t *testing.T) {
	for _, name := range []string{"astronaut.jpg", "astronaut.webp"} {
		if o := orientation(readFile(t, name)); o != 1 {
			t.Errorf("%s: orientation %d", name, o)
		}
	}
	if o := orientation(jpegWithOrientation(t, quadrants(16, 16), 9)); o != 1 {
		t.Errorf("an orientation out of range is read as %d", o)
	}
}

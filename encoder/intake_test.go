package encoder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func encodePNG(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pngHeader is a PNG that ends after saying how large it is.
func pngHeader(width, height uint32) []byte {
	ihdr := binary.BigEndian.AppendUint32([]byte("IHDR"), width)
	ihdr = binary.BigEndian.AppendUint32(ihdr, height)
	return append([]byte("\x89PNG\r\n\x1a\n"), pngChunk(append(ihdr, 8, 2, 0, 0, 0))...)
}

// pngChunk frames a chunk's type and data.
func pngChunk(typed []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(typed)-4))
	return binary.BigEndian.AppendUint32(append(b, typed...), crc32.ChecksumIEEE(typed))
}

func TestFormats(t *testing.T) {
	jpg, webp := readFile(t, "astronaut.jpg"), readFile(t, "astronaut.webp")
	decoded, err := jpeg.Decode(bytes.NewReader(jpg))
	if err != nil {
		t.Fatal(err)
	}
	in := NewIntake(IntakeConfig{Size: 32})
	want, err := in.Read(t.Context(), jpg)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"jpeg": jpg, "png": encodePNG(t, decoded), "webp": webp} {
		got, err := in.Read(t.Context(), data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Image.Rect != image.Rect(0, 0, 32, 32) || !got.Image.Opaque() {
			t.Errorf("%s: %v, opaque %v", name, got.Image.Rect, got.Image.Opaque())
		}
		var sum int
		for i := range got.Image.Pix {
			sum += max(int(got.Image.Pix[i])-int(want.Image.Pix[i]), int(want.Image.Pix[i])-int(got.Image.Pix[i]))
		}
		if mean := float64(sum) / float64(len(got.Image.Pix)); mean > 2.5 {
			t.Errorf("%s: differs from the JPEG by %.1f of 255", name, mean)
		}
		digest := sha256.Sum256(data)
		if got.Hash != hex.EncodeToString(digest[:]) {
			t.Errorf("%s: hash %s", name, got.Hash)
		}
	}
}

func TestRefusals(t *testing.T) {
	jpg, webp := readFile(t, "astronaut.jpg"), readFile(t, "astronaut.webp")
	small := encodePNG(t, image.NewRGBA(image.Rect(0, 0, 20, 20)))
	for _, c := range []struct {
		name string
		data []byte
		code string
		says string
	}{
		{"no bytes", nil, CodeEmpty, "empty"},
		{"text", []byte("hello, this is not a photo at all"), CodeNotAnImage, "not an image"},
		{"one byte", []byte{0xff}, CodeNotAnImage, "not an image"},
		{"gif", []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00"), CodeUnsupported, "GIF"},
		{"heic", []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"), CodeUnsupported, "HEIC"},
		{"avif", []byte("\x00\x00\x00\x18ftypavif\x00\x00\x00\x00"), CodeUnsupported, "AVIF"},
		{"animated webp", []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00\x3f\x00\x00\x3f\x00\x00"), CodeUnsupported, "animated WebP"},
		{"extended webp header alone", []byte("RIFF\x16\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x3f\x00\x00\x3f\x00\x00"), CodeDamaged, "cut off"},
		{"huge", pngHeader(30000, 30000), CodeTooLarge, "30000×30000"},
		{"long", pngHeader(20000, 1), CodeTooLarge, "20000×1"},
		{"too many bytes", append(bytes.Clone(small), make([]byte, 1<<16)...), CodeTooLarge, "bytes"},
		{"png header alone", pngHeader(10, 10), CodeDamaged, "cut off"},
		{"half a jpeg", jpg[:len(jpg)/2], CodeDamaged, "cut off"},
		{"half a webp", webp[:len(webp)/2], CodeDamaged, "cut off"},
		{"half a png", small[:len(small)-20], CodeDamaged, "cut off"},
		{"jpeg magic alone", jpg[:4], CodeDamaged, "header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewIntake(IntakeConfig{MaxBytes: 1 << 16}).Read(t.Context(), c.data)
			var photo *PhotoError
			if !errors.As(err, &photo) || photo.Code != c.code || !strings.Contains(photo.Reason, c.says) {
				t.Errorf("got %v, want code %s and %q", err, c.code, c.says)
			}
		})
	}
}

func TestCancelledBeforeDecoding(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewIntake(IntakeConfig{}).Read(ctx, readFile(t, "astronaut.jpg")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTransparencyIsWhite(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range 64 * 32 { // the upper half: half transparent black
		img.SetNRGBA(i%64, i/64, color.NRGBA{A: 128})
	}
	got, err := NewIntake(IntakeConfig{Size: 16}).Read(t.Context(), encodePNG(t, img))
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Image.RGBAAt(8, 2); c != (color.RGBA{127, 127, 127, 255}) {
		t.Errorf("half transparent black is %v", c)
	}
	if c := got.Image.RGBAAt(8, 13); c != (color.RGBA{255, 255, 255, 255}) {
		t.Errorf("transparent is %v", c)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(readFile(f, "astronaut.webp"))
	f.Add(pngHeader(30000, 30000))
	f.Add(pngHeader(3, 3))
	f.Add(readFile(f, "astronaut.jpg")[:700])
	f.Add(jpegWithOrientation(f, quadrants(40, 24), 6))
	in := NewIntake(IntakeConfig{Size: 8, MaxPixels: 1 << 14, MaxSide: 1 << 10})
	f.Fuzz(func(t *testing.T, data []byte) {
		photo, err := in.Read(context.Background(), data)
		var refused *PhotoError
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("not a PhotoError: %v", err)
		}
		if err == nil && photo.Image.Rect != image.Rect(0, 0, 8, 8) {
			t.Fatalf("image of %v", photo.Image.Rect)
		}
	})
}

func BenchmarkAlign512(b *testing.B) {
	img, err := jpeg.Decode(bytes.NewReader(readFile(b, "astronaut.jpg")))
	if err != nil {
		b.Fatal(err)
	}
	large := warp(reduce(img, 1), centred(img.Bounds(), 512), 512)
	in := NewIntake(IntakeConfig{})
	for b.Loop() {
		if _, err := in.Align(b.Context(), large, 1); err != nil {
			b.Fatal(err)
		}
	}
}

package encoder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // a format intake reads
	_ "image/png"  // a format intake reads
)

// IntakeConfig says what photos are read and how they are cut. A zero field takes its default.
type IntakeConfig struct {
	Size      int    // side of the aligned square in pixels; 128
	MaxBytes  int64  // of a file; 20 MiB
	MaxPixels int64  // width × height; 50 million
	MaxSide   int    // width or height; 16384
	Detector  Runner // BlazeFace front 128 (see face.go); nil: every photo is cropped at its centre
	Cut       Cut    // what of a photo the encoder reads
}

// Cut is what of a photo an encoder reads.
type Cut int

const (
	// Portrait is the face, upright and placed as in the training portraits.
	Portrait Cut = iota
	// Whole is what CLIP's image processor makes of the photo: it is resized until its shorter side is Size, and cropped at its centre. No
	// face is looked for.
	Whole
	// Recognised is the face as recognisers of the ArcFace family were trained on it: eyes, nose and mouth at their places.
	Recognised
)

// Photo is one photo ready for the encoder.
type Photo struct {
	Image *image.RGBA     // Size × Size, opaque, the face upright and placed as in the training portraits
	Hash  string          // sha256 of the file's bytes, in hexadecimal
	Faces int             // faces found; 0 without a detector
	Box   image.Rectangle // the face taken, in pixels of the upright photo; empty where none was looked for or found
	Place image.Rectangle // the same in pixels of Image
	Notes []string        // what the user should know, in sentences
}

// Codes of a PhotoError.
const (
	CodeEmpty       = "empty"     // no bytes
	CodeTooLarge    = "too_large" // over MaxBytes, MaxPixels or MaxSide
	CodeNotAnImage  = "not_an_image"
	CodeUnsupported = "unsupported" // an image, in a format that is not read
	CodeDamaged     = "damaged"     // truncated or corrupt
	CodeNoFace      = "no_face"
)

// PhotoError is a photo that cannot be used: the caller's fault.
type PhotoError struct {
	Code   string // one of the Code constants
	Reason string // lower-case, says what to do
}

func (e *PhotoError) Error() string { return e.Reason }

func refuse(code, format string, args ...any) error {
	return &PhotoError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Intake turns the bytes of a photo into an aligned square. It is safe for concurrent use if its Detector is.
type Intake struct{ cfg IntakeConfig }

// NewIntake fills in cfg's defaults. The caller keeps, and closes, the Detector.
func NewIntake(cfg IntakeConfig) *Intake {
	if cfg.Size == 0 {
		cfg.Size = 128
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 20 << 20
	}
	if cfg.MaxPixels == 0 {
		cfg.MaxPixels = 50_000_000
	}
	if cfg.MaxSide == 0 {
		cfg.MaxSide = 16384
	}
	return &Intake{cfg: cfg}
}

// Read decodes a PNG, JPEG or WebP, told apart by content, turns it upright as its EXIF orientation says, puts
// transparency on white and cuts out the largest face. The error is a *PhotoError if the photo is at fault.
func (in *Intake) Read(ctx context.Context, data []byte) (*Photo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	decoded, err := in.decode(data)
	if err != nil {
		return nil, err
	}
	photo, err := in.Align(ctx, decoded, orientation(data))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	photo.Hash = hex.EncodeToString(sum[:])
	return photo, nil
}

// Decode is Read without the face: the whole picture, upright, with its transparency.
func (in *Intake) Decode(data []byte) (image.Image, error) {
	decoded, err := in.decode(data)
	if err != nil {
		return nil, err
	}
	o := orientation(data)
	if o == 1 {
		return decoded, nil
	}
	img := image.NewRGBA(image.Rectangle{Max: decoded.Bounds().Size()})
	draw.Draw(img, img.Rect, decoded, decoded.Bounds().Min, draw.Src)
	return upright(img, o), nil
}

func (in *Intake) decode(data []byte) (image.Image, error) {
	if err := in.checkHeader(data); err != nil {
		return nil, err
	}
	decoded, format, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, refuse(CodeDamaged, "the image is damaged or cut off (%v): send the whole file", err)
	}
	if format == "webp" {
		fullRange(decoded)
	}
	return decoded, nil
}

// Align is Read after decoding: orientation is EXIF's, 1…8, where 1 is upright. It leaves Hash empty.
func (in *Intake) Align(ctx context.Context, decoded image.Image, orientation int) (*Photo, error) {
	b := decoded.Bounds()
	if in.cfg.Cut == Whole {
		factor := max(1, min(b.Dx(), b.Dy())/workingSide)
		return &Photo{Image: shrink(upright(reduce(decoded, factor), orientation), in.cfg.Size)}, nil
	}
	factor := max(1, max(b.Dx(), b.Dy())/workingSide)
	img := upright(reduce(decoded, factor), orientation)
	photo := &Photo{}
	if in.cfg.Detector == nil {
		photo.Image = warp(img, centred(img.Rect, in.cfg.Size), in.cfg.Size)
		return photo, nil
	}
	faces, err := detect(ctx, in.cfg.Detector, img)
	if err != nil {
		return nil, err
	}
	if len(faces) == 0 {
		return nil, refuse(CodeNoFace, "no face was found: send a photo in which one face is well lit and seen from the front")
	}
	photo.Faces = len(faces)
	if len(faces) > 1 {
		photo.Notes = append(photo.Notes, fmt.Sprintf("%d faces were found; the largest was taken.", len(faces)))
	}
	photo.Box = faces[0].box(float64(factor))
	cut, whole := faces[0].cutOut(portrait, in.cfg.Size), centred(img.Rect, in.cfg.Size)
	if in.cfg.Cut == Recognised {
		cut = faces[0].arcFace(in.cfg.Size)
	} else if cut.near(whole, in.cfg.Size, framed) {
		cut = whole
	}
	photo.Image, photo.Place = warp(img, cut, in.cfg.Size), faces[0].in(cut)
	return photo, nil
}

// framed is how far a photo's corners may be from those of the cut-out, over its side, for the photo to count as framed
// like a training portrait already. It is taken whole then, as sharp as it is: the portraits vary as much.
const framed = 0.16

// checkHeader refuses what cannot or must not be decoded, before a pixel is.
func (in *Intake) checkHeader(data []byte) error {
	switch n := int64(len(data)); {
	case n == 0:
		return refuse(CodeEmpty, "the file is empty: send a PNG, JPEG or WebP photo")
	case n > in.cfg.MaxBytes:
		return refuse(CodeTooLarge, "the file has %d bytes, at most %d are read: send a smaller photo", n, in.cfg.MaxBytes)
	}
	format := sniff(data)
	switch format {
	case "":
		return refuse(CodeNotAnImage, "the file is not an image: send a PNG, JPEG or WebP photo")
	case "PNG", "JPEG", "WebP":
	default:
		return refuse(CodeUnsupported, "%s files are not read: save the photo as JPEG, PNG or WebP", format)
	}
	if format == "WebP" && animated(data) {
		return refuse(CodeUnsupported, "animated WebP files are not read: save one picture of it as JPEG, PNG or WebP")
	}
	header, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return refuse(CodeDamaged, "the %s header is damaged or cut off (%v): send the whole file", format, err)
	}
	w, h := header.Width, header.Height
	switch {
	case w < 1 || h < 1:
		return refuse(CodeDamaged, "the %s header says %d×%d pixels: save the photo again", format, w, h)
	case w > in.cfg.MaxSide || h > in.cfg.MaxSide || int64(w)*int64(h) > in.cfg.MaxPixels:
		return refuse(CodeTooLarge, "the photo has %d×%d pixels, at most %d a side and %d in all are read: send a smaller one",
			w, h, in.cfg.MaxSide, in.cfg.MaxPixels)
	}
	return nil
}

// magic are the first bytes of image files; '?' stands for any byte.
var magic = []struct{ format, bytes string }{
	{"PNG", "\x89PNG\r\n\x1a\n"},
	{"JPEG", "\xff\xd8\xff"},
	{"WebP", "RIFF????WEBPVP8"},
	{"GIF", "GIF8"},
	{"AVIF", "????ftypavif"},
	{"AVIF", "????ftypavis"},
	{"HEIC", "????ftyphe"},
	{"HEIC", "????ftypmif1"},
	{"HEIC", "????ftypmsf1"},
	{"TIFF", "II*\x00"},
	{"TIFF", "MM\x00*"},
	{"BMP", "BM????\x00\x00\x00\x00"},
	{"JPEG XL", "\xff\x0a"},
	{"JPEG XL", "\x00\x00\x00\x0cJXL "},
}

// sniff names the image format of data by its first bytes, or returns "".
func sniff(data []byte) string {
	for _, m := range magic {
		if len(data) < len(m.bytes) {
			continue
		}
		same := true
		for i := range m.bytes {
			same = same && (m.bytes[i] == '?' || m.bytes[i] == data[i])
		}
		if same {
			return m.format
		}
	}
	return ""
}

package imageprompt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"

	"likeness/encoder"
	"likeness/models/op"
	"likeness/models/pixels"
)

// Recogniser makes a vector of a face, of the ArcFace family.
type Recogniser interface {
	// Size is the side of the faces in pixels.
	Size() int
	// Recognise reads a face [3, Size, Size], red, green and blue in -1..1, cut out as encoder.Recognised says.
	Recognise(ctx context.Context, face []float32) ([]float32, error)
	Close() error
}

// openRecogniser opens what sees faces for a FaceID adapter. None is free to come with this program.
func (a *Adapter) openRecogniser(path, file string, open func(path string) (Recogniser, error)) (err error) {
	if file == "" {
		return fmt.Errorf("%s: an %s reads %s: name the one that it was trained with by --image-encoder (buffalo_l's w600k_r50.onnx of InsightFace, whose licence forbids commercial use)",
			path, a.cfg.Kind, a.cfg.Encoder())
	}
	if a.faces, err = open(file); err != nil {
		return err
	}
	seen, err := hashFile(file)
	if err == nil {
		a.version, err = a.fingerprint(seen)
	}
	return err
}

func hashFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// vectors is the input of n faces.
func vectors(values []float32, n int) map[string]op.Array {
	return map[string]op.Array{"face_embeds": op.Floats(values, n, len(values)/n)}
}

// recognise turns faces into vectors of length 1.
func (a *Adapter) recognise(ctx context.Context, photos []*encoder.Photo) (map[string]op.Array, error) {
	var all []float32
	side := a.faces.Size()
	for _, p := range photos {
		face := make([]float32, 3*side*side)
		pixels.Planes(face, p.Image)
		v, err := a.faces.Recognise(ctx, face)
		if err != nil {
			return nil, fmt.Errorf("face recogniser: %w", err)
		}
		length := 0.0
		for _, x := range v {
			length += float64(x) * float64(x)
		}
		if length = math.Sqrt(length); len(v) != a.cfg.ImageWidth || !(length > 0) || math.IsInf(length, 1) {
			return nil, fmt.Errorf("face recogniser: a vector of %d numbers and length %g, the adapter reads %d", len(v), length, a.cfg.ImageWidth)
		}
		for _, x := range v {
			all = append(all, float32(float64(x)/length))
		}
	}
	return vectors(all, len(photos)), nil
}

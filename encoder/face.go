package encoder

import (
	"cmp"
	"context"
	"fmt"
	"image"
	"math"
	"slices"

	"likeness/models/op"
)

// Runner is a network ready to run; an ONNX Runtime session is one.
type Runner interface {
	Run(ctx context.Context, inputs map[string]op.Array) (map[string]op.Array, error)
	Close() error
}

// detectorInput is [1, 128, 128, 3], red, green and blue in -1…1.
const detectorInput = "input:0"

// Thresholds on the detector's score.
const (
	certain     = 0.6 // in the whole photo
	certainTile = 0.8 // in a part of it: many parts, many chances to be wrong
)

// detect finds the faces of img, the largest first. Only where the whole photo shows none are its parts searched.
func detect(ctx context.Context, detector Runner, img *image.RGBA) ([]face, error) {
	faces, err := detectIn(ctx, detector, img, letterboxed(img.Rect, detectorSide), certain)
	if err != nil {
		return nil, err
	}
	if len(faces) == 0 {
		for _, tile := range tiles(img.Rect) {
			found, err := detectIn(ctx, detector, img, letterboxed(tile, detectorSide), certainTile)
			if err != nil {
				return nil, err
			}
			faces = append(faces, found...)
		}
	}
	faces = blend(faces)
	slices.SortStableFunc(faces, func(a, b face) int { return cmp.Compare(b.w*b.h, a.w*a.h) })
	if len(faces) == 0 {
		return nil, nil
	}
	near, err := detectIn(ctx, detector, img, letterboxed(faces[0].around(2), detectorSide), certain)
	if err != nil {
		return nil, err
	}
	for _, f := range blend(near) { // a closer look places the keypoints better
		if f.score > faces[0].score && iou(f, faces[0]) > 0.4 {
			faces[0] = f
			break
		}
	}
	return faces, nil
}

// tiles are squares of half the photo's longer side, overlapping by half.
func tiles(r image.Rectangle) []image.Rectangle {
	side := max(r.Dx(), r.Dy()) / 2
	step := max(1, side/2)
	var out []image.Rectangle
	for y := 0; y == 0 || y+step < r.Dy(); y += step {
		for x := 0; x == 0 || x+step < r.Dx(); x += step {
			out = append(out, image.Rect(x, y, x+side, y+side))
		}
	}
	return out
}

// detectIn runs the detector on the part of img that s cuts out.
func detectIn(ctx context.Context, detector Runner, img *image.RGBA, s similarity, threshold float64) ([]face, error) {
	cut := warp(img, s, detectorSide)
	pixels := make([]float32, 0, 3*detectorSide*detectorSide)
	for i := 0; i < len(cut.Pix); i += 4 {
		for _, v := range cut.Pix[i : i+3] {
			pixels = append(pixels, float32(v)/127.5-1)
		}
	}
	out, err := detector.Run(ctx, map[string]op.Array{detectorInput: op.Floats(pixels, 1, detectorSide, detectorSide, 3)})
	if err != nil {
		return nil, fmt.Errorf("face detector: %w", err)
	}
	var faces []face
	for _, g := range grids {
		scores, boxes := out[g.scores].F32, out[g.boxes].F32
		if n := g.cells * g.cells * g.anchors; len(scores) != n || len(boxes) != n*boxValues {
			return nil, fmt.Errorf("face detector: outputs %s and %s have %d and %d values, not %d and %d: is it BlazeFace front 128?",
				g.scores, g.boxes, len(scores), len(boxes), n, n*boxValues)
		}
		faces = append(faces, decodeFaces(scores, boxes, g.cells, g.anchors, threshold)...)
	}
	for i := range faces {
		faces[i] = faces[i].mapped(s)
	}
	return faces, nil
}

// mapped is f, given in the cut-out, in the photo. Boxes stay level: cut-outs for the detector are not turned.
func (f face) mapped(s similarity) face {
	to := func(p point) point {
		x, y := s.at(p.x, p.y)
		return point{x, y}
	}
	f.centre, f.w, f.h = to(f.centre), f.w*s.scale(), f.h*s.scale()
	for k := range f.keys {
		f.keys[k] = to(f.keys[k])
	}
	return f
}

// around is the square of the given number of box sides at the face.
func (f face) around(times float64) image.Rectangle {
	half := times * max(f.w, f.h) / 2
	return image.Rect(int(f.centre.x-half), int(f.centre.y-half), int(f.centre.x+half), int(f.centre.y+half))
}

// box is the face's box times factor.
func (f face) box(factor float64) image.Rectangle {
	at := func(v float64) int { return int(math.Round(v * factor)) }
	return image.Rect(at(f.centre.x-f.w/2), at(f.centre.y-f.h/2), at(f.centre.x+f.w/2), at(f.centre.y+f.h/2))
}

// Where the training portraits have their faces, as the detector sees them; see TestPlaceOfDrawnFaces.
const (
	placedSide = 0.40 // the box's side, over the frame's
	placedX    = 0.50 // the middle of the eyes, over the frame's side
	placedY    = 0.465
	mostTilt   = 30 * math.Pi / 180
)

// placed cuts f out upright: eyes level (turned by mostTilt at most), where the training portraits have them. The
// scale is the box's, not the eyes': how far apart the eyes are belongs to the likeness.
func placed(f face, size int) similarity {
	left, right := f.keys[0], f.keys[1]
	angle := math.Atan2(right.y-left.y, right.x-left.x)
	angle = min(max(angle, -mostTilt), mostTilt)
	scale := max(f.w, f.h) / (placedSide * float64(size))
	s := similarity{a: scale * math.Cos(angle), b: scale * math.Sin(angle)}
	x, y := s.at(placedX*float64(size), placedY*float64(size))
	s.x0, s.y0 = (left.x+right.x)/2-x, (left.y+right.y)/2-y
	return s
}

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

// DetectorFile is where scripts/setup puts the detector's model under $LIKENESS_NATIVE.
const DetectorFile = "blazeface/face_detection_front_128x128_barracuda.onnx"

// detectorInput is [1, 128, 128, 3], red, green and blue in -1…1.
const detectorInput = "input:0"

// Thresholds on the detector's score; see TestDrawnFaces.
const (
	possible    = 0.5 // worth a closer look
	certain     = 0.6 // when looked at closely
	certainPart = 0.8 // the same, if seen in a part of the photo: many parts, many chances to be wrong
	mostSeen    = 12  // looked at closely in one photo
)

// detect finds the faces of img, the largest first: in the whole, else in parts of half its side, else of a quarter.
func detect(ctx context.Context, detector Runner, img *image.RGBA) (faces []face, err error) {
	threshold := certain
	for parts := 1; parts <= 4 && len(faces) == 0 && err == nil; parts *= 2 {
		faces, err = search(ctx, detector, img, tiles(img.Rect, parts), threshold)
		threshold = certainPart
	}
	slices.SortStableFunc(faces, func(a, b face) int { return cmp.Compare(b.w*b.h, a.w*a.h) })
	return faces, err
}

// search finds faces in parts of img. Each one seen is looked at again closely and upright, which dismisses what is none
// and places the keypoints of what is one. Its score must reach threshold then.
func search(ctx context.Context, detector Runner, img *image.RGBA, parts []image.Rectangle, threshold float64) ([]face, error) {
	var seen, sure []face
	for _, part := range parts {
		found, err := detectIn(ctx, detector, img, letterboxed(part, detectorSide), possible)
		if err != nil {
			return nil, err
		}
		seen = append(seen, found...)
	}
	seen = blend(seen)
	for _, f := range seen[:min(len(seen), mostSeen)] {
		found, err := detectIn(ctx, detector, img, f.cutOut(closeUp, detectorSide), threshold)
		if err != nil {
			return nil, err
		}
		for _, closer := range blend(found) {
			if iou(f, closer) > 0.3 {
				sure = append(sure, closer)
				break
			}
		}
	}
	return blend(sure), nil
}

// tiles are squares that cover r, of the longer side over parts, overlapping by half.
func tiles(r image.Rectangle, parts int) []image.Rectangle {
	side := max(1, max(r.Dx(), r.Dy())/parts)
	step := max(1, side/2)
	var out []image.Rectangle
	for y := 0; y == 0 || y-step+side < r.Dy(); y += step {
		for x := 0; x == 0 || x-step+side < r.Dx(); x += step {
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

// box is the face's box times factor.
func (f face) box(factor float64) image.Rectangle {
	at := func(v float64) int { return int(math.Round(v * factor)) }
	return image.Rect(at(f.centre.x-f.w/2), at(f.centre.y-f.h/2), at(f.centre.x+f.w/2), at(f.centre.y+f.h/2))
}

// in is the face's box in a cut-out.
func (f face) in(s similarity) image.Rectangle {
	x, y := s.inverse(f.centre.x, f.centre.y)
	f.centre, f.w, f.h = point{x, y}, f.w/s.scale(), f.h/s.scale()
	return f.box(1)
}

// place is where a cut-out has its face.
type place struct {
	side float64 // of the box, over the frame's
	x, y float64 // of the eyes' middle, over the frame's side
}

var (
	closeUp  = place{side: 0.5, x: 0.5, y: 0.4}
	portrait = place{side: 0.414, x: 0.5, y: 0.489} // the training portraits', as the detector sees them: see TestDrawnFaces
)

const mostTilt = 30 * math.Pi / 180

// cutOut places f in a frame of size pixels, upright: the eyes are level (turned by mostTilt at most). The scale is the
// box's, not the eyes', whose distance belongs to the likeness.
func (f face) cutOut(to place, size int) similarity {
	left, right := f.keys[0], f.keys[1]
	angle := math.Atan2(right.y-left.y, right.x-left.x)
	angle = min(max(angle, -mostTilt), mostTilt)
	scale := max(f.w, f.h) / (to.side * float64(size))
	s := similarity{a: scale * math.Cos(angle), b: scale * math.Sin(angle)}
	x, y := s.at(to.x*float64(size), to.y*float64(size))
	s.x0, s.y0 = (left.x+right.x)/2-x, (left.y+right.y)/2-y
	return s
}

// arcFace is where recognisers of the ArcFace family have the eyes, the nose and the middle of the mouth's corners in 112 pixels (Deng et al.
// 2019, section 3.1, and the authors' code).
var arcFace = [4]point{{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {56.1396, 92.2848}}

// arcFace places f in a frame of size pixels so, by least squares (Umeyama 1991, without reflection).
func (f face) arcFace(size int) similarity {
	scale := float64(size) / 112
	var to, from point // means, in the frame and in the photo
	for i, p := range arcFace {
		to.add(point{p.x * scale, p.y * scale}, 1/float64(len(arcFace)))
		from.add(f.keys[i], 1/float64(len(arcFace)))
	}
	var a, b, square float64
	for i, p := range arcFace {
		x, y := p.x*scale-to.x, p.y*scale-to.y
		u, v := f.keys[i].x-from.x, f.keys[i].y-from.y
		a, b, square = a+x*u+y*v, b+x*v-y*u, square+x*x+y*y
	}
	s := similarity{a: a / square, b: b / square}
	x, y := s.at(to.x, to.y)
	s.x0, s.y0 = from.x-x, from.y-y
	return s
}

package encoder

import (
	"cmp"
	"math"
	"slices"
)

// The grids of BlazeFace front 128 (Bazarevsky et al. 2019, §3.2): every cell has a fixed number of anchors, all of
// them points at the cell's centre, whose boxes are offsets in pixels of the 128-pixel input.
const (
	detectorSide = 128
	boxValues    = 16 // centre x, y, width, height, and six keypoints
)

var grids = []struct {
	scores, boxes  string // the graph's outputs: [1, cells²·anchors, 1] and [1, cells²·anchors, boxValues]
	cells, anchors int
}{
	{"Identity:0", "Identity_2:0", 16, 2},
	{"Identity_1:0", "Identity_3:0", 8, 6},
}

// point is a position in pixels.
type point struct{ x, y float64 }

// face is one detection: in the detector's input until mapped, then in the photo.
type face struct {
	score  float64
	centre point
	w, h   float64
	keys   [6]point // the eye on the picture's left, the one on its right, nose, mouth, left ear, right ear
}

// decodeFaces returns the anchors of one grid whose score reaches threshold.
func decodeFaces(scores, boxes []float32, cells, anchors int, threshold float64) []face {
	var faces []face
	for i, logit := range scores {
		score := 1 / (1 + math.Exp(-float64(logit)))
		if !(score >= threshold) {
			continue
		}
		cell := i / anchors
		ax := (float64(cell%cells) + 0.5) / float64(cells) * detectorSide
		ay := (float64(cell/cells) + 0.5) / float64(cells) * detectorSide
		v := boxes[i*boxValues:][:boxValues]
		at := func(k int) point { return point{ax + float64(v[k]), ay + float64(v[k+1])} }
		f := face{score: score, centre: at(0), w: float64(v[2]), h: float64(v[3])}
		for k := range f.keys {
			f.keys[k] = at(4 + 2*k)
		}
		faces = append(faces, f)
	}
	return faces
}

// blend merges detections that overlap into their mean, weighted by score (BlazeFace §3.3): one face each, the most
// certain first.
func blend(faces []face) []face {
	const overlap = 0.3
	rest := slices.Clone(faces)
	slices.SortStableFunc(rest, func(a, b face) int { return cmp.Compare(b.score, a.score) })
	var out []face
	for len(rest) > 0 {
		top, sum := rest[0], face{}
		var others []face
		for _, f := range rest {
			if f != top && iou(top, f) < overlap {
				others = append(others, f)
				continue
			}
			sum.add(f, f.score)
		}
		mean := face{}
		mean.add(sum, 1/sum.score)
		mean.score = top.score
		out, rest = append(out, mean), others
	}
	return out
}

// add accumulates g's geometry times weight, and the weight in score.
func (f *face) add(g face, weight float64) {
	f.score += weight
	f.centre.add(g.centre, weight)
	f.w, f.h = f.w+weight*g.w, f.h+weight*g.h
	for k := range f.keys {
		f.keys[k].add(g.keys[k], weight)
	}
}

func (p *point) add(q point, weight float64) { p.x, p.y = p.x+weight*q.x, p.y+weight*q.y }

// iou is the area that two faces' boxes share, over the area they cover.
func iou(a, b face) float64 {
	side := func(p, pw, q, qw float64) float64 { return max(0, min(p+pw/2, q+qw/2)-max(p-pw/2, q-qw/2)) }
	both := side(a.centre.x, a.w, b.centre.x, b.w) * side(a.centre.y, a.h, b.centre.y, b.h)
	return both / (a.w*a.h + b.w*b.h - both)
}

package encoder

import (
	"image"
	"math"
	"testing"
)

func TestDecodeFaces(t *testing.T) {
	scores, boxes := make([]float32, 512), make([]float32, 512*boxValues)
	for i := range scores {
		scores[i] = -10
	}
	const i = (3*16+5)*2 + 1 // row 3, column 5, second anchor
	scores[i] = 2
	copy(boxes[i*boxValues:], []float32{1, -2, 40, 42, -8, -6, 8, -6})
	faces := decodeFaces(scores, boxes, 16, 2, 0.5)
	if len(faces) != 1 {
		t.Fatalf("%d faces", len(faces))
	}
	f := faces[0]
	if f.centre != (point{44 + 1, 28 - 2}) || f.w != 40 || f.h != 42 || f.keys[0] != (point{36, 22}) || f.keys[1] != (point{52, 22}) {
		t.Errorf("got %+v", f)
	}
	if math.Abs(f.score-0.880797) > 1e-6 {
		t.Errorf("score %g", f.score)
	}
	scores[i] = float32(math.NaN())
	if faces := decodeFaces(scores, boxes, 16, 2, 0.5); len(faces) != 0 {
		t.Error("a NaN score counts as a face")
	}
}

func TestBlend(t *testing.T) {
	at := func(x, score float64) face { return face{score: score, centre: point{x, 50}, w: 20, h: 20} }
	got := blend([]face{at(52, 0.6), at(50, 0.9), at(90, 0.7)})
	if len(got) != 2 || got[0].score != 0.9 || got[1].score != 0.7 {
		t.Fatalf("got %+v", got)
	}
	if want := (0.6*52 + 0.9*50) / 1.5; math.Abs(got[0].centre.x-want) > 1e-9 || math.Abs(got[0].w-20) > 1e-9 {
		t.Errorf("blended to %+v, want x %g", got[0], want)
	}
}

func TestTilesCoverThePhoto(t *testing.T) {
	r := image.Rect(0, 0, 200, 120)
	if got := tiles(r, 1); len(got) != 1 || got[0] != image.Rect(0, 0, 200, 200) {
		t.Errorf("in one part: %v", got)
	}
	for _, parts := range []int{2, 4} {
		for _, p := range []image.Point{{0, 0}, {199, 119}, {100, 60}, {0, 119}, {199, 0}} {
			covered := false
			for _, tile := range tiles(r, parts) {
				covered = covered || p.In(tile)
			}
			if !covered {
				t.Errorf("%d parts: %v lies in none", parts, p)
			}
		}
	}
}

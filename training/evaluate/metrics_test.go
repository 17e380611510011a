package evaluate

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"likeness/training/portraits"
)

func TestBootstrapAgreesWithTheStandardError(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var values [][]float64
	var sum float64
	for range 200 {
		p := float64(r.IntN(2)) // pictures of a person all succeed or all fail: 200 independent values, not 800
		values = append(values, []float64{p, p, p, p})
		sum += p
	}
	mean := sum / 200
	got, half := bootstrap(values), 1.96*math.Sqrt(mean*(1-mean)/200)
	if got.Mean != mean {
		t.Errorf("mean %g, want %g", got.Mean, mean)
	}
	if math.Abs(got.Low-(mean-half)) > 0.015 || math.Abs(got.High-(mean+half)) > 0.015 {
		t.Errorf("interval [%g, %g], want about [%g, %g]", got.Low, got.High, mean-half, mean+half)
	}
}

func TestBootstrapOfEqualValues(t *testing.T) {
	if got := bootstrap([][]float64{{0.5}, {0.5, 0.5}}); got != (Interval{0.5, 0.5, 0.5}) {
		t.Errorf("%+v", got)
	}
}

func TestNearestAndPresent(t *testing.T) {
	gallery := [][]float32{{1, 0}, {0, 1}, {-1, 0}}
	if got := nearest(gallery, []float32{0.6, 0.8}); got != 1 {
		t.Errorf("nearest is %d", got)
	}
	if got := cosine(gallery[0], []float32{0.6, 0.8}); math.Abs(got-0.6) > 1e-6 {
		t.Errorf("cosine %g", got)
	}
	if got := present([6]int{1, 2, 3, 4, 5, 2}, [6]int{1, 2, 0, 4, 5, 0}); math.Abs(got-4.0/6) > 1e-12 {
		t.Errorf("present %g", got)
	}
}

func TestLabelsOfLogits(t *testing.T) {
	c := portraits.Context{Expression: portraits.Winking, Headwear: portraits.Cap, Clothes: portraits.RedShirt, Scene: portraits.Snow, Style: portraits.PixelArt}
	logits := make([]float32, labels())
	at := 0
	for f, facet := range portraits.LabelNames {
		for i := range facet.Values {
			logits[at+i] = -float32(i) - 5
		}
		logits[at+c.Labels()[f]] = 1
		at += len(facet.Values)
	}
	if got := labelsOf(logits); got != c.Labels() {
		t.Errorf("%v, want %v", got, c.Labels())
	}
}

func TestBlurIsABinomialFilter(t *testing.T) {
	const side = portraits.Size
	plane, scratch := make([]float32, side*side), make([]float32, side*side)
	plane[10*side+20] = 16
	blur(plane, scratch)
	for dy, row := range [][]float32{{1, 2, 1}, {2, 4, 2}, {1, 2, 1}} {
		for dx, want := range row {
			if got := plane[(9+dy)*side+19+dx]; got != want {
				t.Errorf("at %d, %d: %g, want %g", dx-1, dy-1, got, want)
			}
		}
	}
	for i := range plane {
		plane[i] = 0.5
	}
	blur(plane, scratch)
	if plane[0] != 0.5 || plane[len(plane)-1] != 0.5 || plane[side/2] != 0.5 {
		t.Error("a plain ground changes")
	}
}

func TestShiftMovesThePicture(t *testing.T) {
	const side = portraits.Size
	src, dst := make([]float32, side*side), make([]float32, side*side)
	src[10*side+20], src[5*side] = 1, 2
	shift(dst, src, 3, -2)
	if dst[8*side+23] != 1 || dst[3*side+1] != 2 {
		t.Error("a picture moved right and up is not there")
	}
}

func TestReportTable(t *testing.T) {
	r := Report{Persons: 100, Pictures: 4, Rows: []Row{
		{Method: "real renders", Rank1: Interval{0.9, 0.85, 0.95}, Facets: [6]float64{1, 1, 0.99, 1, 1, 1}},
		{Method: "encoder, 1 photo", Rank1: Interval{0.6, 0.55, 0.65}, Cosine: Interval{0.7, 0.68, 0.72}, PrepareMS: 12.34, Bytes: 9000},
	}}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"person 90.0 % (of 100)", "glasses 99.0 %", "60.0 % [55.0, 65.0]", "0.700 [0.680, 0.720]", "12.3", "9000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

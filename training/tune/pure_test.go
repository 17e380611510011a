package tune

import (
	"encoding/json"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/scheduler"
	"likeness/models/tokenizer"
)

// The mask is one in the mean, highest on the face, falls with the distance from it and is even where no face is known.
func TestMask(t *testing.T) {
	m := box{0.25, 0.25, 0.5, 0.5}.mask(16, 16)
	sum := 0.0
	for _, v := range m {
		sum += float64(v)
	}
	if math.Abs(sum/256-1) > 1e-5 {
		t.Errorf("the mean is %g", sum/256)
	}
	row := m[6*16:][:16]
	if row[5] != row[7] || row[5] != slices.Max(m) {
		t.Errorf("the face's row %v", row)
	}
	for x := 10; x < 15; x++ {
		if !(row[x] >= row[x+1]) {
			t.Errorf("the weight rises away from the face: %v", row)
		}
	}
	if low := m[255] / row[5]; low < far || low > 1.1*far {
		t.Errorf("the corner counts %g of the face", low)
	}
	for _, v := range (box{}).mask(3, 5) {
		if v != 1 {
			t.Errorf("without a face a place counts %g", v)
		}
	}
}

// Every view has its face where its mask says: the views of a picture with a bright box are bright in their own box.
func TestViews(t *testing.T) {
	const side = 64
	p := &encoder.Photo{Image: image.NewRGBA(image.Rect(0, 0, side, side)), Place: image.Rect(10, 16, 26, 36)}
	for i := range side * side {
		c := color.RGBA{0, 0, 0, 255}
		if (image.Point{i % side, i / side}).In(p.Place) {
			c = color.RGBA{255, 0, 0, 255}
		}
		p.Image.SetRGBA(i%side, i/side, c)
	}
	all := views(p, 8, rand.New(rand.NewPCG(1, 2)))
	if len(all) != 8 || all[0].planes[16*side+10] != 1 || all[0].planes[0] != -1 {
		t.Fatalf("%d views, of which the first is not the photo", len(all))
	}
	for n, v := range all {
		for i, value := range v.planes[:side*side] {
			x, y := (float64(i%side)+0.5)/side, (float64(i/side)+0.5)/side
			edge := min(math.Abs(x-v.face.x0), math.Abs(x-v.face.x1), math.Abs(y-v.face.y0), math.Abs(y-v.face.y1))
			inside := x > v.face.x0 && x < v.face.x1 && y > v.face.y0 && y < v.face.y1
			if edge > 2.0/side && inside != (value > 0) {
				t.Fatalf("view %d, place %d: red %g, inside of %v: %v", n, i, value, v.face, inside)
			}
		}
	}
	if all[1].face.x0 < 0.5 || all[2].face.x0 > 0.5 {
		t.Errorf("the second view lies at %v, the third at %v: want every other one mirrored", all[1].face, all[2].face)
	}
}

// From a noisy sample and a perfect prediction the clean latent comes back, whatever the network predicts.
func TestNoiseComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	latent, noise := make([]float32, 4*4*4), make([]float32, 4*4*4)
	for i := range latent {
		latent[i], noise[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
	}
	for _, prediction := range []string{scheduler.Epsilon, scheduler.VPrediction, scheduler.Sample} {
		cfg := scheduler.Default()
		cfg.PredictionType = prediction
		for _, at := range []int{0, 300, 800} {
			b := newBatch(cfg, []int{2, 4, 4, 4})
			b.put(1, latent, noise, make([]float32, 16), at)
			back := make([]float32, len(latent))
			cfg.PredictX0(back, b.sample[64:], b.target[64:], float64(at))
			for i := range back {
				if math.Abs(float64(back[i]-latent[i])) > 1e-4 {
					t.Fatalf("%s at %d: %g comes back as %g", prediction, at, latent[i], back[i])
				}
			}
			if b.timestep[1] != float32(at) || !(b.weight[1] > 0 && b.weight[1] <= 3.5) {
				t.Errorf("%s at %d: timestep %g, weight %g", prediction, at, b.timestep[1], b.weight[1])
			}
		}
	}
}

// A change of the rank is kept whole; of one above it, what is left out is what is said.
func TestExtract(t *testing.T) {
	const out, in = 5, 7
	r := rand.New(rand.NewPCG(5, 6))
	change := make([]float32, out*in)
	for range 3 {
		u, v := make([]float64, out), make([]float64, in)
		for i := range u {
			u[i] = r.NormFloat64()
		}
		for i := range v {
			v[i] = r.NormFloat64()
		}
		for i := range change {
			change[i] += float32(u[i/in] * v[i%in])
		}
	}
	before := math.Inf(1)
	for rank := 1; rank <= 6; rank++ {
		d, left, err := extract(change, out, in, rank)
		if err != nil || d.Rank != min(rank, out) || d.In != in || d.Out != out {
			t.Fatal(d.Rank, err)
		}
		miss := missed(change, d)
		if math.Abs(miss-left) > 1e-4 || miss > before || rank >= 3 && miss > 1e-8 || rank < 3 && miss < 1e-2 {
			t.Errorf("rank %d: %g is left out, %g it says", rank, miss, left)
		}
		before = miss + 1e-6
	}
}

// missed is the square of what d leaves out of a change.
func missed(change []float32, d concept.Delta) (square float64) {
	for i, left := range change {
		for k := range d.Rank {
			left -= d.Up[k*d.Out+i/d.In] * d.Down[k*d.In+i%d.In]
		}
		square += float64(left) * float64(left)
	}
	return square
}

// TestExtractLarge holds a change that is too large for its basis to be exact, with singular values that fall slowly as those of trained weights do,
// against what is known of it.
func TestExtractLarge(t *testing.T) {
	const out, in, rank = 160, 120, 8
	var left, right mat.SVD
	r := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) *mat.Dense {
		m := mat.NewDense(n, in, nil)
		m.Apply(func(_, _ int, _ float64) float64 { return r.NormFloat64() }, m)
		return m
	}
	left.Factorize(noise(out), mat.SVDThin)
	right.Factorize(noise(in), mat.SVDThin)
	var u, v, us, change mat.Dense
	left.UTo(&u)
	right.VTo(&v)
	values, best := make([]float64, in), 0.0
	for i := range values {
		values[i] = math.Pow(float64(i+1), -0.5)
		if i >= rank {
			best += values[i] * values[i]
		}
	}
	us.Mul(&u, mat.NewDiagDense(in, values))
	change.Mul(&us, v.T())
	flat := make([]float32, out*in)
	for i := range flat {
		flat[i] = float32(change.At(i/in, i%in))
	}
	d, lost, err := extract(flat, out, in, rank)
	if err != nil {
		t.Fatal(err)
	}
	miss := missed(flat, d)
	if math.Abs(miss-lost) > 1e-4*best || lost < best*(1-1e-4) || lost > best*1.005 {
		t.Errorf("%g is left out, %g it says, and %g would be the least", miss, lost, best)
	}
}

// BenchmarkExtract is the change of one of the larger layers of Stable Diffusion 1.5.
func BenchmarkExtract(b *testing.B) {
	const out, in, rank = 1280, 1280, 32
	change := make([]float32, out*in)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range change {
		change[i] = float32(r.NormFloat64())
	}
	for b.Loop() {
		if _, _, err := extract(change, out, in, rank); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCaptions(t *testing.T) {
	tok, err := tokenizer.Open("../../models/demo/tokenizer")
	if err != nil {
		t.Fatal(err)
	}
	for set, templates := range Captions {
		for _, template := range templates {
			c, err := encode(tok, template, "me", "face", 2)
			if err != nil {
				t.Fatal(err)
			}
			ones := 0
			for i, v := range c.slots {
				if v == 1 {
					ones++
					if want := tok.Tokens("face")[0]; c.ids[i/2] != want {
						t.Errorf("%s %q: token %d at a slot, want the noun's %d", set, template, c.ids[i/2], want)
					}
				}
			}
			plain, err := tok.Encode(strings.ReplaceAll(template, "{}", "face"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if alone, err := encode(tok, template, "me", "face", 0); err != nil || !slices.Equal(alone.ids, plain.IDs) || ones != 2 {
				t.Errorf("%s %q: %d slots, without a word %v, %v", set, template, ones, alone.ids, err)
			}
		}
	}
}

func TestReadPhotosRefuses(t *testing.T) {
	read := func(path string) error {
		_, err := ReadPhotos(t.Context(), path, func(side int) *encoder.Intake {
			return encoder.NewIntake(encoder.IntakeConfig{Size: side})
		}, 64, 32)
		return err
	}
	empty, many, broken := t.TempDir(), t.TempDir(), t.TempDir()
	for i := range MaxPhotos + 1 {
		if err := os.WriteFile(filepath.Join(many, string(rune('a'+i))), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{"a.png": "\x89PNG\r\n\x1a\nand no more", "b.txt": "hello", ".hidden": "not read"} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string][]string{
		empty:                          {"no photos", empty, "1 to 20"},
		filepath.Join(empty, "gone"):   {"no photos", "gone does not exist"},
		many:                           {many, "21 files", "at most 20"},
		broken:                         {"a.png: the PNG header is damaged", "b.txt: the file is not an image"},
		filepath.Join(broken, "b.txt"): {"b.txt: the file is not an image"},
	} {
		err := read(path)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("error %v, want one with %q", err, part)
			}
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("a hidden file was read: %v", err)
		}
	}
}

// Settings that are left as they are do not show in JSON, so that what was made before there was a field is known again.
func TestConfigLeavesZerosOut(t *testing.T) {
	if data, err := json.Marshal(Config{Method: "quick", Steps: 3}); err != nil || string(data) != `{"Method":"quick","Steps":3}` {
		t.Errorf("%s, %v", data, err)
	}
}

//go:build torch

package tune

import (
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/encodertest"
	"likeness/encoder/exchange"
	"likeness/models/checkpoint"
	"likeness/models/op"
)

// withEncoder is a copy of the tiny folder with an encoder.
func withEncoder(t *testing.T) string {
	t.Helper()
	cfg := encoder.Default(16)
	cfg.ImageSize, cfg.PatchSize, cfg.BlockOutChannels, cfg.NormNumGroups, cfg.PlaceChannels = 32, 4, []int{8, 8}, 4, 4
	cfg.HiddenSize, cfg.Rank, cfg.NumCoefficients = 16, 2, 3
	return withCovariance(t, encodertest.Folder(t, tinySD, cfg))
}

// withCovariance adds the covariance of a model's text states.
func withCovariance(t *testing.T, dir string) string {
	t.Helper()
	b := openBase(t, newEngine(t), dir)
	if err := b.Covariance(t.Context(), []string{"a photo of a cat", "a drawing of a face wearing a hat", "a red dog", "hi"}, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writePhotos writes n photos of coloured shapes.
func writePhotos(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(4, 4))
	for i := range n {
		img := image.NewRGBA(image.Rect(0, 0, 80, 72))
		for range 12 {
			x, y := r.IntN(80), r.IntN(72)
			c := color.RGBA{uint8(r.IntN(256)), uint8(r.IntN(256)), uint8(r.IntN(256)), 255}
			draw.Draw(img, image.Rect(x-20, y-20, x+20, y+20), image.NewUniform(c), image.Point{}, draw.Src)
		}
		f, err := os.Create(filepath.Join(dir, string(rune('a'+i))+".png"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func centre(side int) *encoder.Intake { return encoder.NewIntake(encoder.IntakeConfig{Size: side}) }

func readPhotos(t testing.TB, b *Base, n int) []Photo {
	t.Helper()
	photos, err := ReadPhotos(t.Context(), writePhotos(t, n), centre, b.Side(), b.Seen())
	if err != nil || len(photos) != n {
		t.Fatal(photos, err)
	}
	return photos
}

// config is a short run of a method, which may have withText or relaxed behind it.
func config(method string) Config {
	method, text := strings.CutSuffix(method, withText)
	method, wide := strings.CutSuffix(method, relaxed)
	rank := 3
	if method == "quick" && !wide {
		rank = 0
	}
	return Config{Method: method, Word: "me", Class: "face", Steps: 8, LR: 1e-2, Batch: 4, Vectors: map[string]int{"textual-inversion": 2}[method],
		Rank: rank, Seed: 7, TextEncoder: text, Captions: []string{"a photo of {}", "a drawing of {}"}}
}

// withText is the ending of a method that changes the text encoder too.
const withText = "-text-encoder"

// relaxed is the ending of quick with a rank.
const relaxed = "-relaxed"

var everyMethod = []string{"quick", "quick" + relaxed, "lora", "lora" + withText, "textual-inversion", "extended", "perfusion", "custom-diffusion", "dreambooth", "dreambooth" + withText, "svdiff"}

func tune(t *testing.T, b *Base, photos []Photo, cfg Config) *Result {
	t.Helper()
	result, err := Tune(t.Context(), b, photos, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// same tells whether two concepts hold the same numbers.
func same(a, b *concept.Concept) bool {
	return reflect.DeepEqual(a.WordEmbeddings, b.WordEmbeddings) && reflect.DeepEqual(a.Coefficients, b.Coefficients) && reflect.DeepEqual(a.LoRA, b.LoRA)
}

// One seed twice is one concept, for every method; another seed is another. The best step is never worse than the first values.
func TestOneSeedTwice(t *testing.T) {
	b := openBase(t, newEngine(t), withEncoder(t))
	photos := readPhotos(t, b, 2)
	for _, method := range everyMethod {
		cfg := config(method)
		first, second := tune(t, b, photos, cfg), tune(t, b, photos, cfg)
		if !same(first.Concept, second.Concept) || first.Last != second.Last {
			t.Errorf("%s: two runs with one seed differ", method)
		}
		cfg.Seed++
		if other := tune(t, b, photos, cfg); other.First == first.First || other.Last == first.Last {
			t.Errorf("%s: the seed makes no difference", method)
		}
		if first.Last > first.First || math.IsNaN(first.Last) {
			t.Errorf("%s: the loss on held-out noise is %g at the best step, %g before the first", method, first.Last, first.First)
		}
		c := first.Concept
		if c.Method != cfg.Method || (len(c.LoRA[checkpoint.TextEncoder]) > 0) != cfg.TextEncoder || c.Photos != 2 || c.BaseModel != b.fingerprint || c.PhotoHash == "" {
			t.Errorf("%s: the concept says %+v", method, c)
		}
	}
}

// A run that is stopped and started again ends where one that never stopped does.
// A checkpoint of other settings is not gone on from; a damaged one is named.
// quick ends early where it does not gain, and the prediction is what it keeps then.
func TestQuickKeepsThePrediction(t *testing.T) {
	b := openBase(t, newEngine(t), withEncoder(t))
	photos := readPhotos(t, b, 1)
	cfg := config("quick")
	cfg.Steps, cfg.LR = 30, 1e-9
	result := tune(t, b, photos, cfg)
	if result.Best != 0 || result.Steps >= cfg.Steps || result.Last != result.First {
		t.Errorf("best of step %d, %d steps of %d, losses %g and %g", result.Best, result.Steps, cfg.Steps, result.First, result.Last)
	}
	predicted, err := b.predict(t.Context(), cfg, photos)
	if err != nil {
		t.Fatal(err)
	}
	c := result.Concept
	if !reflect.DeepEqual(c.Coefficients, predicted.Coefficients) || !reflect.DeepEqual(c.WordEmbeddings, predicted.WordEmbeddings) {
		t.Error("words and coefficients are not the predicted ones")
	}
	if c.Layout != predicted.Layout || c.Encoder != predicted.Encoder {
		t.Errorf("the coefficients are of layout %s and encoder %s, want %s and %s", c.Layout, c.Encoder, predicted.Layout, predicted.Encoder)
	}
}

// With a rank quick starts from the prediction too: its first rows are the predicted ones, and the new ones change nothing yet.
func TestRelaxedStart(t *testing.T) {
	b := openBase(t, newEngine(t), withEncoder(t))
	photos := readPhotos(t, b, 1)
	cfg := config("quick" + relaxed)
	cfg.Steps, cfg.LR = 2, 1e-9
	result := tune(t, b, photos, cfg)
	predicted, err := b.predict(t.Context(), cfg, photos)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := b.encoder.Expand(predicted)
	if err != nil {
		t.Fatal(err)
	}
	want, err := exchange.Unpack(b.encoder.Layout(), packed)
	if err != nil {
		t.Fatal(err)
	}
	for path, d := range want {
		got := result.Concept.LoRA[checkpoint.UNet][path]
		if !reflect.DeepEqual(got.Down[:len(d.Down)], d.Down) || !reflect.DeepEqual(got.Up[:len(d.Up)], d.Up) || got.Rank != d.Rank+cfg.Rank {
			t.Errorf("%s: the first rows of rank %d are not the predicted ones of rank %d", path, got.Rank, d.Rank)
		}
	}
}

// The coefficients' loss and gradients are those of the rows that they span, by the chain rule.
func TestCoefficients(t *testing.T) {
	dir := withEncoder(t)
	b := openBase(t, newEngine(t), dir)
	photos := readPhotos(t, b, 1)
	learned := func(name string) (float64, map[string]op.Array) {
		r := start(t, b, quick, config(name), photos)
		defer r.close()
		return gradients(t, r, r.cfg.Batch)
	}
	loss, got := learned("quick")
	wantLoss, rows := learned("quick" + relaxed)
	if math.Abs(loss-wantLoss) > 1e-5*wantLoss {
		t.Errorf("the loss is %g, want %g", loss, wantLoss)
	}
	component, err := checkpoint.OpenComponent(filepath.Join(dir, "encoder"))
	if err != nil {
		t.Fatal(err)
	}
	defer component.Close()
	var want []float32
	for _, target := range b.encoder.Layout().Targets() {
		basis, dims, err := component.Float32("basis." + target.Path + ".basis") // [coefficients, rank·out]
		if err != nil {
			t.Fatal(err)
		}
		up := rows[layersPart+"/"+target.Path+".up"].F32 // of the predicted rows, and of new ones
		for k := range dims[0] {
			sum := 0.0
			for i, v := range basis[k*dims[1] : (k+1)*dims[1]] {
				sum += float64(v) * float64(up[i])
			}
			want = append(want, float32(sum))
		}
	}
	gradient := got[coefficientsName].F32
	length := distance(want, make([]float32, len(want)))
	if d := distance(gradient, want); len(gradient) != len(want) || length == 0 || d > 1e-3*length {
		t.Errorf("the gradient is %g from the one wanted, whose length is %g", d, length)
	}
}

// Two batches in a step are one of twice the size.
func TestAccumulate(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	photos := readPhotos(t, b, 1)
	cfg := config("lora")
	cfg.Steps, cfg.Batch = 1, 4
	whole := tune(t, b, photos, cfg)
	cfg.Batch, cfg.Accumulate = 2, 2
	parts := tune(t, b, photos, cfg)
	if whole.Best != parts.Best || math.Abs(whole.Last-parts.Last) > 1e-5*whole.Last {
		t.Errorf("step %d with loss %g, and %d with %g", whole.Best, whole.Last, parts.Best, parts.Last)
	}
}

// A loss that is no number ends the run with the step's number, and what was best before is there.
func TestDiverged(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	cfg := config("lora")
	cfg.LR, cfg.Run = 1e30, t.TempDir()
	result, err := Tune(t.Context(), b, readPhotos(t, b, 1), cfg, nil)
	var diverged *DivergedError
	if !errors.As(err, &diverged) || diverged.Step < 1 || !strings.Contains(err.Error(), "step ") {
		t.Fatalf("error %v", err)
	}
	if result == nil || result.Best >= diverged.Step || result.Concept.Validate() != nil {
		t.Errorf("step %d diverged, and the result is %+v", diverged.Step, result)
	}
}

// Sample pictures come with the steps that were asked for.
func TestSamples(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	cfg := config("lora")
	cfg.Steps, cfg.SampleEvery = 3, 2
	var with []int
	if _, err := Tune(t.Context(), b, readPhotos(t, b, 1), cfg, func(e Event) {
		if e.Sample != nil && e.Sample.Bounds().Dx() == b.Side() {
			with = append(with, e.Step)
		}
	}); err != nil || !reflect.DeepEqual(with, []int{2, 3}) {
		t.Errorf("pictures with steps %v, %v", with, err)
	}
}

func TestTuneRefuses(t *testing.T) {
	b := openBase(t, newEngine(t), tinySD)
	photos := readPhotos(t, b, 1)
	for want, change := range map[string]func(*Config){
		"training covariance":   func(c *Config) { c.Method = "perfusion" },
		`"perfusio": known are`: func(c *Config) { c.Method = "perfusio" },
		"has no encoder":        func(c *Config) { c.Method = "quick" },
		"needs {}":              func(c *Config) { c.Captions = []string{"a photo"} },
		"is not 1 to 32":        func(c *Config) { c.Word = "Me!" },
		"needs the noun":        func(c *Config) { c.Class = " " },
		"learning rate -1":      func(c *Config) { c.LR = -1 },
		"steps -1":              func(c *Config) { c.Steps = -1 },
		"rank 1000":             func(c *Config) { c.Rank = 1000 },
		`targets ["nose"]`:      func(c *Config) { c.Targets = []string{"nose"} },
		"batch -1":              func(c *Config) { c.Batch = -1 },
		"vectors 99":            func(c *Config) { c.Vectors = 99 },
		"alpha -1":              func(c *Config) { c.Alpha = -1 },
		"text encoder: textual-inversion leaves it as it is": func(c *Config) { c.Method, c.TextEncoder = "textual-inversion", true },
		"samples -1":           func(c *Config) { c.SampleEvery = -1 },
		"beyond the 14 tokens": func(c *Config) { c.Vectors, c.Captions = 4, []string{strings.Repeat("a ", 12) + "{}"} },
	} {
		cfg := config("lora")
		change(&cfg)
		if _, err := Tune(t.Context(), b, photos, cfg, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	for _, n := range []int{0, MaxPhotos + 1} {
		if _, err := Tune(t.Context(), b, make([]Photo, n), config("lora"), nil); err == nil || !strings.Contains(err.Error(), "photos: give 1 to 20") {
			t.Errorf("%d photos: error %v", n, err)
		}
	}
}

// Models whose losses are not known here are refused when they are opened.
func TestOpenRefuses(t *testing.T) {
	engine := newEngine(t)
	for dir, want := range map[string]string{"tiny-sdxl_a": "SDXL", "tiny-lcm_a": "distilled", "tiny-inpaint": "inpainting"} {
		if b, err := Open(engine, filepath.Join(tinySD, "..", dir)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", dir, b, err)
		}
	}
}

func TestShorten(t *testing.T) {
	l := &learner{nouns: []float32{1, 0, 0, 2}, longest: 2.5}
	vectors := []float32{3, 3, 0, 0.25} // words [4, 3] and [0, 2.25]
	if !l.shorten(vectors, 2) {
		t.Error("a word of length 5 was left")
	}
	for i, want := range []float32{1, 1.5, 0, 0.25} { // words [2, 1.5] and [0, 2.25]
		if math.Abs(float64(vectors[i]-want)) > 1e-6 {
			t.Errorf("vectors %v", vectors)
		}
	}
	if l.shorten(vectors, 2) {
		t.Error("words that are short enough were changed")
	}
}

// Photos of another side are learned at it, as the sample pictures show.
func TestResolution(t *testing.T) {
	model := openBase(t, newEngine(t), withEncoder(t))
	side := model.Side() + model.Step()
	b, err := model.At(side)
	if err != nil {
		t.Fatal(err)
	}
	photos := readPhotos(t, b, 1)
	for _, method := range []string{"quick", "dreambooth"} {
		cfg := config(method)
		cfg.Steps, cfg.SampleEvery = 1, 1
		drawn := 0
		if _, err := Tune(t.Context(), b, photos, cfg, func(e Event) {
			if e.Sample != nil {
				drawn = e.Sample.Bounds().Dx()
			}
		}); err != nil || drawn != side {
			t.Errorf("%s: a picture of side %d, want %d: %v", method, drawn, side, err)
		}
	}
	for _, wrong := range []int{-8, 1, side - 1, maxSide * 2} {
		if _, err := model.At(wrong); err == nil || !strings.Contains(err.Error(), "must be a multiple of") {
			t.Errorf("resolution %d: %v", wrong, err)
		}
	}
	if same, err := model.At(0); same != model || err != nil {
		t.Errorf("resolution 0: %v, %v", same, err)
	}
	if _, err := Tune(t.Context(), model, photos, config("lora"), nil); err == nil || !strings.Contains(err.Error(), "pixels") {
		t.Errorf("photos of side %d for a base of %d: %v", side, model.Side(), err)
	}
}

// Blocks that are computed again in the backward pass have the gradients of those that are kept.
// With less memory dreambooth learns, as well as without, and goes on where it was stopped.
// A disk that is full when a run is saved costs nothing of what was saved before.

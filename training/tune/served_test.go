//go:build torch

package tune

import (
	"errors"
	"image"
	"image/color"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// A tuned concept that is read back from its file gives on ONNX Runtime the picture that libtorch gives while it is tuned.
func TestServedPictures(t *testing.T) {
	dir := withEncoder(t)
	b := openBase(t, newEngine(t), dir)
	photos := readPhotos(t, b, 1)
	for _, method := range []string{"quick", "quick" + relaxed, "lora", "lora" + withText, "textual-inversion", "extended", "perfusion", "custom-diffusion", "svdiff"} {
		t.Run(method, func(t *testing.T) {
			cfg := config(method)
			m, err := b.find(cfg.Method)
			if err != nil {
				t.Fatal(err)
			}
			cfg.LR = 0.05
			switch m.Name {
			case quick.Name:
				cfg.LR = 0.5
				if cfg.Rank > 0 {
					cfg.LR = 10 // of which rows and words have a small part
				}
			case perfusion.Name:
				cfg.LR = 1
			case customDiffusion.Name:
				cfg.Rank = 16 // of the whole layers: nothing is lost
			case svdiff.Name:
				cfg.Rank, cfg.Targets = 128, append([]string{"net.2", "proj_in"}, attention...) // of layers that a concept holds as a whole
			}
			r := start(t, b, m, cfg, photos)
			defer r.close()
			first, err := r.pictures(goldenPicture.Steps, goldenPicture.GuidanceScale)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.train(t.Context(), func(Event) {}); err != nil {
				t.Fatal(err)
			}
			want, err := r.pictures(goldenPicture.Steps, goldenPicture.GuidanceScale)
			if err != nil {
				t.Fatal(err)
			}
			numbers, err := r.numbers()
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := r.concept(numbers, func(string) {})
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "me.safetensors")
			if err := c.Write(path); err != nil {
				t.Fatal(err)
			}
			if c, err = concept.Read(path); err != nil {
				t.Fatal(err)
			}
			got := serve(t, dir, c)
			if most, mean := difference(got, want[0]); most > 1 || mean > 1e-3 {
				t.Errorf("the served picture is up to %d levels from the tuned one, %g of the range in the mean", most, mean)
			}
			if most, _ := difference(first[0], want[0]); most < 4 {
				t.Errorf("tuning changed the picture by %d levels only", most)
			}
		})
	}
}

// A model folder that a method saves draws on ONNX Runtime, with the word that is beside it, what libtorch draws with the weights as they were
// learned. The concept of it is refused by the base.
func TestSavedModels(t *testing.T) {
	dir := withEncoder(t)
	b := openBase(t, newEngine(t), dir)
	photos := readPhotos(t, b, 1)
	for _, method := range everyMethod {
		cfg := config(method)
		m, err := b.find(cfg.Method)
		if err != nil {
			t.Fatal(err)
		}
		if !m.MovesWeights {
			continue
		}
		t.Run(method, func(t *testing.T) {
			r := start(t, b, m, cfg, photos)
			defer r.close()
			first, err := r.pictures(goldenPicture.Steps, goldenPicture.GuidanceScale)
			if err != nil {
				t.Fatal(err)
			}
			result, err := r.result(t.Context(), func(Event) {})
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range r.groups { // back to the best step, whose numbers are what is kept
				own := maps.Clone(r.best)
				maps.DeleteFunc(own, func(name string, _ op.Array) bool { return !slices.Contains(g.params.Names(), name) })
				if err := g.params.Set(own); err != nil {
					t.Fatal(err)
				}
			}
			r.learner.everywhere = true // the negative prompt is drawn with the folder's weights too
			want, err := r.pictures(goldenPicture.Steps, goldenPicture.GuidanceScale)
			if err != nil {
				t.Fatal(err)
			}
			made := filepath.Join(t.TempDir(), "made")
			if err := errors.Join(b.CanSaveModel(m.Name, made), result.SaveModel(made)); err != nil {
				t.Fatal(err)
			}
			word, err := concept.Read(filepath.Join(made, WordFile("me")))
			if err != nil {
				t.Fatal(err)
			}
			if word.BaseModel == b.fingerprint || len(word.LoRA) > 0 || word.WordEmbeddings.Vectors == 0 {
				t.Errorf("the word beside the model is %+v", word)
			}
			if tuned := openBase(t, b.engine, made); tuned.fingerprint != word.BaseModel || tuned.encoder != nil {
				t.Errorf("the folder is %s, with an encoder: %v", tuned.fingerprint, tuned.encoder != nil)
			}
			if most, mean := difference(serve(t, made, word), want[0]); most > 1 || mean > 1e-3 {
				t.Errorf("the served picture is up to %d levels from the tuned one, %g of the range in the mean", most, mean)
			}
			if most, _ := difference(first[0], want[0]); most < 4 {
				t.Errorf("tuning changed the picture by %d levels only", most)
			}
		})
	}
	for _, method := range []string{"quick", "lora", "textual-inversion"} {
		if err := b.CanSaveModel(method, t.TempDir()); err == nil || !strings.Contains(err.Error(), method+" moves no weights") || !strings.Contains(err.Error(), "dreambooth") {
			t.Errorf("%s: %v", method, err)
		}
	}
	if err := b.CanSaveModel("dreambooth", dir); err == nil || !strings.Contains(err.Error(), "the model itself") {
		t.Errorf("the model itself: %v", err)
	}
}

// start is a run at its first step.
func start(t *testing.T, b *Base, m Method, cfg Config, photos []Photo) *run {
	t.Helper()
	cfg = m.complete(cfg)
	work := &task{base: b, cfg: cfg, photos: photos}
	var err error
	if work.learner, err = m.start(t.Context(), b, cfg, photos); err != nil {
		t.Fatal(err)
	}
	if err := work.prepare(func(string) {}); err != nil {
		t.Fatal(err)
	}
	r, err := newRun(work, 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// goldenPicture is the request of the compared pictures; the seed is that of sample pictures.
var goldenPicture = pipeline.Request{Prompt: "a photo of <me>", NegativePrompt: " ", Seed: 1, Steps: 6, GuidanceScale: 3, Scheduler: "ddim"}

// serve draws the picture with the concept on ONNX Runtime.
func serve(t *testing.T, dir string, c *concept.Concept) image.Image {
	t.Helper()
	if err := ort.Init(ort.LibraryPath()); err != nil {
		t.Fatal(err)
	}
	backend := pipeline.Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), onnx.Options{Name: name, OwnOps: true})
		if err != nil {
			return nil, err
		}
		return ort.Open(graph, ort.Options{Threads: 1})
	}}
	backend.Reach = encoder.Reach(c)
	m, own, err := encoder.Open(dir, backend, func(unet op.Model, cfg encoder.Config) (*op.Layout, error) {
		return trace.Layout(unet, cfg.Rank, cfg.IsTarget)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if own != nil {
		defer own.Close()
	}
	e := pipeline.NewEngine(m, pipeline.EngineConfig{})
	defer e.Close()
	s, err := encoder.Subject(c, 1, m, own)
	if err != nil {
		t.Fatal(err)
	}
	request := goldenPicture
	request.Subjects = []pipeline.Subject{s}
	result, err := e.Generate(t.Context(), request, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result.Image
}

// difference is the largest of two pictures' values in grey levels, and the mean over the range.
func difference(a, b image.Image) (most int, mean float64) {
	r := a.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			p, q := color.NRGBAModel.Convert(a.At(x, y)).(color.NRGBA), color.NRGBAModel.Convert(b.At(x, y)).(color.NRGBA)
			for _, d := range []int{int(p.R) - int(q.R), int(p.G) - int(q.G), int(p.B) - int(q.B)} {
				d = max(d, -d)
				most, mean = max(most, d), mean+float64(d)/255
			}
		}
	}
	return most, mean / math.Max(1, float64(3*r.Dx()*r.Dy()))
}

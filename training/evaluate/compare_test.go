//go:build torch

package evaluate

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/encodertest"
	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/training/portraits"
	"likeness/training/protocol"
	"likeness/training/tune"
)

const tinySD = "../../models/pipeline/testdata/tiny-sd"

// withEncoder is a copy of the tiny folder with an encoder.
func withEncoder(t *testing.T) string {
	t.Helper()
	cfg := encoder.Default(16)
	cfg.ImageSize, cfg.Rank, cfg.NumCoefficients = 32, 2, 3
	return encodertest.Folder(t, tinySD, cfg)
}

// onRuntime makes networks run on ONNX Runtime.
func onRuntime(t *testing.T) Network {
	t.Helper()
	if err := ort.Init(ort.LibraryPath()); err != nil {
		t.Fatal(err)
	}
	return func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), onnx.Options{Name: name, OwnOps: true})
		if err != nil {
			return nil, err
		}
		return ort.Open(graph, ort.Options{Threads: 1})
	}
}

// short are candidates that take a step or two.
func short(t *testing.T, methods ...string) []candidate {
	t.Helper()
	all, err := candidates(methods, trials{}, protocol.Methods)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].tuning.Steps, all[i].tuning.Batch = min(all[i].tuning.Steps, 2), 2
		if all[i].tuning.Method != "" && all[i].tuning.Steps == 0 {
			all[i].tuning.Steps = 1
		}
	}
	return all
}

// opened is a comparison of few pictures on a tiny model.
func opened(t *testing.T, model, dir string, wanted []candidate) *comparison {
	t.Helper()
	c, err := newComparison(dir, 2, wanted, Config{Persons: 2, Gallery: 5, Pictures: 1, Steps: 1, GuidanceScale: 2, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	if c.base, err = tune.Open(newEngine(t), model); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.base.Close() })
	if c.painter, err = newPainter(model, onRuntime(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.painter.Close() })
	return c
}

func tiny(t *testing.T) *Judge {
	t.Helper()
	weights, err := initial()
	if err != nil {
		t.Fatal(err)
	}
	return open(t, newEngine(t), weights)
}

// Every method is tuned, served and measured; what is done is not done again.
func TestCompareMethods(t *testing.T) {
	dir := t.TempDir()
	model, wanted := withEncoder(t), short(t, allMethods)
	c := opened(t, model, dir, wanted)
	if err := c.base.Covariance(t.Context(), []string{"a face", "a portrait of a face wearing a hat"}, nil); err != nil {
		t.Fatal(err)
	}
	var last, total int
	c.Progress = func(row string, done, all int) {
		if done < last || done > all || !strings.HasPrefix(row, "person ") {
			t.Errorf("%s: %d of %d is done, after %d", row, done, all, last)
		}
		last, total = done, all
	}
	if n, err := c.fill(t.Context()); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if last != total || total == 0 {
		t.Errorf("%d of %d is done at the end", last, total)
	}
	out, err := c.tally(t.Context(), tiny(t), 2)
	if err != nil {
		t.Fatal(err)
	}
	checkRows(t, out, wanted)
	checkPlot(t, dir, "prompt alone", "encoder + 20 steps", "textual-inversion")
	for _, k := range c.candidates {
		f, err := os.Open(filepath.Join(dir, "sheets", k.folder()+".png"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		sheet, err := png.DecodeConfig(f)
		if err != nil || sheet.Width != (1+seeds)*portraits.Size || sheet.Height != 2*portraits.Size {
			t.Errorf("%s: a contact sheet of %d×%d, %v", k.name, sheet.Width, sheet.Height, err)
		}
	}
	unet, err := os.Stat(filepath.Join(model, "unet", "diffusion_pytorch_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range c.candidates { // drawn with all weights that were learned, which are let go after that
		if o := c.made(0, k); k.movesWeights() != (int64(o.Bytes) > unet.Size()) {
			t.Errorf("%s takes %d bytes, the UNet %d", k.name, o.Bytes, unet.Size())
		}
		if _, err := os.Stat(filepath.Join(c.folder(0, k), modelFolder)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", k.name, err)
		}
	}
	made, err := concept.Read(filepath.Join(dir, "persons/001/encoder-5-steps/concept.safetensors"))
	if err != nil || made.Photos != 2 || made.Word != word {
		t.Error(made, err)
	}

	again := opened(t, model, dir, wanted)
	again.Progress = func(row string, _, _ int) { t.Errorf("%s: is done again", row) }
	if n, err := again.fill(t.Context()); n != 2 || err != nil {
		t.Error(n, err)
	}
	if other, err := again.tally(t.Context(), tiny(t), 2); err != nil || other.Rows[3].PrepareMS != out.Rows[3].PrepareMS {
		t.Error(other, err)
	}
}

// checkRows wants a row of each candidate; one that pictures cannot be made with is left out.
func checkRows(t *testing.T, out *Comparison, wanted []candidate) {
	t.Helper()
	rows := map[string]bool{}
	for _, r := range out.Rows {
		rows[r.Method] = true
		if r.Reference {
			continue
		}
		if r.KeptFacets == nil || r.KeptLayout == nil || r.Gained == nil || r.Diversity == nil {
			t.Fatalf("%s: not all is measured", r.Method)
		}
		if r.Bytes <= 0 || r.PrepareMS <= 0 || r.PictureMS <= 0 || !(r.KeptLayout.Mean > -1 && r.KeptLayout.Mean <= 1) || !(r.Diversity.Mean > 0 && r.Diversity.Mean < 1) {
			t.Errorf("%+v", r)
		}
		if tuned := r.Method != encoder.Method; tuned != (r.Steps > 0) {
			t.Errorf("%s took %g steps", r.Method, r.Steps)
		}
	}
	for _, k := range wanted {
		if rows[k.name] == (out.LeftOut[k.name] != "") {
			t.Errorf("%s has a row: %v, and is left out because %q", k.name, rows[k.name], out.LeftOut[k.name])
		}
	}
	for _, name := range []string{"real renders", "prompt alone", "encoder", "encoder + 5 steps", "encoder + 20 steps", "encoder + 40 steps", "lora", "textual-inversion"} {
		if !rows[name] {
			t.Errorf("no row of %s; left out are %v", name, out.LeftOut)
		}
	}
	if alone := out.Rows[1]; alone.KeptLayout != nil || alone.Diversity == nil || alone.Bytes != 0 {
		t.Errorf("%+v", alone)
	}
	if out.Gallery != 5 || out.Contexts != 1 || out.Photos != 2 {
		t.Errorf("%+v", out)
	}
}

// An interruption leaves the figures of the persons that are done, and the same command goes on.
func TestCompareInterrupted(t *testing.T) {
	dir, wanted := t.TempDir(), short(t, "lora")
	ctx, cancel := context.WithCancel(t.Context())
	c := opened(t, tinySD, dir, wanted)
	c.Progress = func(row string, _, _ int) {
		if strings.HasPrefix(row, "person 2 of 2, lora") {
			cancel()
		}
	}
	n, err := c.fill(ctx)
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Fatal(n, err)
	}
	if out, err := c.tally(t.Context(), tiny(t), n); err != nil || out.Persons != 1 || len(out.Rows) != 3 {
		t.Error(out, err)
	}
	rows := map[string]bool{}
	c = opened(t, tinySD, dir, wanted)
	c.Progress = func(row string, _, _ int) { rows[row] = true }
	if n, err := c.fill(t.Context()); n != 2 || err != nil || len(rows) != 1 || !rows["person 2 of 2, lora"] {
		t.Error(n, err, rows)
	}
	c.Steps = 2
	if c.made(0, wanted[1]) != nil {
		t.Error("pictures of other settings are taken for these")
	}
}

// What a model cannot do is left out and said, and the others are measured.
func TestCompareLeavesOutWhatFails(t *testing.T) {
	c := opened(t, tinySD, t.TempDir(), short(t, "encoder", "quick", "lora"))
	if n, err := c.fill(t.Context()); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	for _, name := range []string{"encoder", "encoder + 5 steps", "encoder + 40 steps"} {
		if !strings.Contains(c.leftOut[name], "has no encoder") {
			t.Errorf("%s is left out because %q", name, c.leftOut[name])
		}
	}
	if out, err := c.tally(t.Context(), tiny(t), 2); err != nil || len(out.Rows) != 3 || len(out.LeftOut) != 4 {
		t.Error(out, err)
	}
}

// Where nothing is left to compare, or nothing can be written, the run ends with the reason.
func TestCompareEnds(t *testing.T) {
	c := opened(t, tinySD, t.TempDir(), short(t, "encoder"))
	if n, err := c.fill(t.Context()); n != 0 || err == nil || !strings.Contains(err.Error(), "encoder: the model has no encoder") {
		t.Error(n, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c = opened(t, tinySD, file, short(t, "lora", "textual-inversion", "encoder")[1:])
	if n, err := c.fill(t.Context()); n != 0 || err == nil || !strings.Contains(err.Error(), file) || len(c.leftOut) > 0 {
		t.Error(n, err, c.leftOut)
	}
}

func TestCandidates(t *testing.T) {
	all, err := candidates([]string{"all"}, trials{}, protocol.Methods)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, k := range all {
		found[k.method]++
	}
	if found[""] != 1 || found[encoder.Method] != 1 || found[quickMethod] != len(quickSteps) {
		t.Error(found)
	}
	for _, m := range tune.Methods {
		if found[m.Name] == 0 {
			t.Errorf("%s is not compared", m.Name)
		}
	}
	if _, err := candidates([]string{"lora", "magic"}, trials{}, protocol.Methods); err == nil || !strings.Contains(err.Error(), "magic") || !strings.Contains(err.Error(), "textual-inversion") {
		t.Errorf("error %v", err)
	}
}

func TestCandidatesOfTrials(t *testing.T) {
	all, err := candidates([]string{"quick", "lora"}, trials{rates: []float64{1e-4, 1e-3}, steps: []int{7}}, protocol.Methods)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	folders := map[string]bool{}
	for _, k := range all[1:] {
		names = append(names, k.name)
		folders[k.folder()] = true
		if k.tuning.Steps != 7 || k.tuning.LR != 1e-4 && k.tuning.LR != 1e-3 {
			t.Errorf("%s: %d steps, learning rate %g", k.name, k.tuning.Steps, k.tuning.LR)
		}
	}
	want := []string{"encoder + 7 steps, rate 0.0001", "encoder + 7 steps, rate 0.001", "lora, 7 steps, rate 0.0001", "lora, 7 steps, rate 0.001"}
	if !slices.Equal(names, want) || len(folders) != len(want) {
		t.Error(names, folders)
	}
}

// Persons that settings are chosen on are nobody that the choice is measured on.
func TestValidationPersons(t *testing.T) {
	cast := func(validation bool) evaluation {
		e := evaluation{Config: Config{Persons: 2, Pictures: 1, Validation: validation}}
		e.cast()
		return e
	}
	test, validation := cast(false), cast(true)
	for _, s := range test.subjects {
		for _, o := range validation.subjects {
			if s.identity == o.identity {
				t.Error("a test person is a validation person")
			}
		}
	}
}

func TestBesideWithoutConcept(t *testing.T) {
	c, err := newComparison(t.TempDir(), 1, nil, Config{Persons: 1, Pictures: 1})
	if err != nil {
		t.Fatal(err)
	}
	a, b := plain(50), plain(200)
	wanted := c.subjects[0].contexts[0].Labels() // of both pictures
	other := wanted
	other[2], other[3], other[5] = wanted[2]+1, wanted[3]+1, wanted[5]+1
	one := wanted
	one[2] = other[2]
	without := &shown{pictures: []image.Image{a, a}, sights: []Sight{{Labels: wanted}, {Labels: other}}}
	with := &shown{pictures: []image.Image{a, b}, sights: []Sight{{Labels: wanted}, {Labels: one}}}
	facets, layout, gained := c.beside(with, without)
	near(t, "facets", facets.Mean, (1+4.0/6)/2, 1e-12)
	near(t, "layout", layout.Mean, (1+(2*50*200+c1)/(50*50+200*200+c1))/2, 1e-9)
	near(t, "gained", gained.Mean, 2.0/6/2, 1e-12)
	facets, layout, gained = c.beside(without, without)
	near(t, "facets of the same", facets.Mean, 1, 0)
	near(t, "layout of the same", layout.Mean, 1, 1e-12)
	near(t, "gained of the same", gained.Mean, 0, 0)
	_, _, gained = c.beside(without, with)
	near(t, "lost", gained.Mean, -2.0/6/2, 1e-12)
}

// The command compares from the model folder to the files.
func TestCompareCommand(t *testing.T) {
	dir := t.TempDir()
	c := Command{Model: withEncoder(t), Methods: []string{"encoder"}, Persons: 1, Pictures: 1, Photos: 1, Steps: 1, Seed: 1, Threads: 1, Run_: dir}
	if err := c.Run(t.Context(), onRuntime(t)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "comparison.json"))
	if err != nil {
		t.Fatal(err)
	}
	var figures Comparison
	if err := json.Unmarshal(data, &figures); err != nil || len(figures.Rows) != 3 || figures.Gallery != tablePersons || figures.Rows[2].Method != "encoder" {
		t.Errorf("%+v, %v", figures, err)
	}
	for name, broken := range map[string]Command{
		"known are":    {Methods: []string{"magic"}},
		"--photos 5":   {Methods: []string{"all"}, Pictures: 1, Photos: 5},
		"at least":     {Methods: []string{"all"}, Pictures: 0, Photos: 1},
		"--only-judge": {Methods: []string{"all"}, Pictures: 1, Photos: 1, OnlyJudge: true},
	} {
		if err := broken.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

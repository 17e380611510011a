package ort_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/clip"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/unet"
	"likeness/models/vae"
)

// TestMain loads the library: without it no test here means anything.
func TestMain(m *testing.M) {
	if err := ort.Init(ort.LibraryPath()); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// parsed makes a network of a config.json.
func parsed[C any](parse func([]byte) (C, error), network func(C) op.Model) func([]byte) (op.Model, error) {
	return func(data []byte) (op.Model, error) {
		cfg, err := parse(data)
		return network(cfg), err
	}
}

// TestGolden holds every network against what diffusers and transformers computed (scripts/golden).
func TestGolden(t *testing.T) {
	denoiser := func(c unet.Config) op.Model { return unet.New(c, nil) }
	for _, c := range []struct {
		pattern string
		network func(config []byte) (op.Model, error)
	}{
		{"../../unet/testdata/*", parsed(unet.ParseConfig, denoiser)},
		{"../../clip/testdata/text_*", parsed(clip.ParseTextConfig, clip.Text)},
		{"../../clip/testdata/vision_*", parsed(clip.ParseVisionConfig, clip.Vision)},
		{"../../vae/testdata/*", parsed(vae.ParseConfig, vae.Encoder)},
		{"../../vae/testdata/*", parsed(vae.ParseConfig, vae.Decoder)},
	} {
		folders, err := filepath.Glob(c.pattern)
		if err != nil || len(folders) == 0 {
			t.Fatalf("%s: no cases: %v", c.pattern, err)
		}
		for _, folder := range folders {
			t.Run(filepath.Base(folder), func(t *testing.T) { golden(t, folder, c.network) })
		}
	}
}

func golden(t *testing.T, folder string, network func([]byte) (op.Model, error)) {
	config, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	model, err := network(config)
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := filepath.Glob(filepath.Join(folder, "*model.safetensors"))
	if len(paths) != 1 {
		t.Fatalf("%s: weight files %v, want one", folder, paths)
	}
	session := open(t, model, onnx.FromFile(openFile(t, paths[0])))
	io := openFile(t, filepath.Join(folder, "io.safetensors"))
	inputs := map[string]op.Array{}
	for _, p := range session.Inputs() {
		if p.Name == "concept_embeddings" { // transformers has none
			inputs[p.Name] = zeros(append(read(t, io, "input_ids").Dims, p.Dims[2])...)
		} else {
			inputs[p.Name] = read(t, io, p.Name)
		}
	}
	outputs := run(t, session, inputs)
	for name, got := range outputs {
		within(t, name, got, read(t, io, name), 1e-3)
	}
}

func openFile(t testing.TB, path string) *safetensors.File {
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func read(t testing.TB, f *safetensors.File, name string) op.Array {
	info, ok := f.Info(name)
	if !ok {
		t.Fatalf("%s holds no %q", f.Path(), name)
	}
	if info.DType == safetensors.TypeI64 {
		v, dims, err := f.Int64(name)
		if err != nil {
			t.Fatal(err)
		}
		return op.Ints(v, dims...)
	}
	v, dims, err := f.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return op.Floats(v, dims...)
}

func zeros(dims ...int) op.Array { return op.Floats(make([]float32, op.Size(dims)), dims...) }

// open opens a session of one thread, which a busy machine does not slow down as much as several that wait for each other.
func open(t testing.TB, model op.Model, weights onnx.Weights) *ort.Session {
	t.Helper()
	return openThreads(t, model, weights, 1)
}

func openThreads(t testing.TB, model op.Model, weights onnx.Weights, threads int) *ort.Session {
	t.Helper()
	g, err := onnx.Emit(model, weights, onnx.Options{Name: t.Name(), OwnOps: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ort.Open(g, ort.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func run(t testing.TB, s *ort.Session, inputs map[string]op.Array) map[string]op.Array {
	t.Helper()
	outputs, err := s.Run(t.Context(), inputs)
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

// within fails where got is farther than tolerance from want anywhere.
func within(t testing.TB, name string, got, want op.Array, tolerance float64) {
	t.Helper()
	if !slices.Equal(got.Dims, want.Dims) {
		t.Fatalf("%s: dims %v, want %v", name, got.Dims, want.Dims)
	}
	worst := 0.0
	for i, v := range want.F32 {
		worst = math.Max(worst, math.Abs(float64(got.F32[i]-v)))
	}
	if !(worst <= tolerance) {
		t.Errorf("%s: %g off, may be %g", name, worst, tolerance)
	}
}

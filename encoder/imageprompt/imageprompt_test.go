package imageprompt_test

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/encoder"
	"likeness/encoder/imageprompt"
	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// TestMain loads ONNX Runtime: without it no test here means anything.
func TestMain(m *testing.M) {
	if err := ort.Init(ort.LibraryPath()); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const cases = "../../models/ipadapter/testdata"

var backend = pipeline.Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
	graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), onnx.Options{Name: name, OwnOps: true})
	if err != nil {
		return nil, err
	}
	return ort.Open(graph, ort.Options{Threads: 1})
}}

func open(t *testing.T, folder string, b pipeline.Backend) *imageprompt.Adapter {
	t.Helper()
	a, err := imageprompt.Open(t.Context(), filepath.Join(folder, "adapter.safetensors"), "", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// photos reads pictures as a server does.
func photos(t *testing.T, a *imageprompt.Adapter, names ...string) []*encoder.Photo {
	t.Helper()
	in := encoder.NewIntake(encoder.IntakeConfig{Size: a.Size(), Cut: a.Cut()})
	var all []*encoder.Photo
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(cases, name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		photo, err := in.Read(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, photo)
	}
	return all
}

func near(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i] - want[i])); !(d <= 1e-4) {
			t.Fatalf("%s: value %d is off by %g", what, i, d)
		}
	}
}

// From the file of a photo to its tokens, all is as in diffusers (scripts/golden/ipadapter.py), in low memory too.
func TestEncode(t *testing.T) {
	folders, err := filepath.Glob(cases + "/*_*")
	if err != nil || len(folders) < 7 {
		t.Fatal(folders, err)
	}
	for i, folder := range folders {
		if strings.HasPrefix(filepath.Base(folder), "faceid") {
			continue // TestFaces
		}
		t.Run(filepath.Base(folder), func(t *testing.T) {
			file, err := safetensors.Open(filepath.Join(folder, "io.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			b := backend
			b.LowMemory = i%2 == 1
			a := open(t, folder, b)
			want, dims, err := file.Float32("image_tokens")
			if err != nil {
				t.Fatal(err)
			}
			c, err := a.Encode(t.Context(), photos(t, a, "tall", "wide"), "me", "cat", "base")
			if err != nil {
				t.Fatal(err)
			}
			near(t, "image_tokens", c.ImageTokens.Data, want)
			if c.ImageTokens.Count != 2*dims[1] || c.ImageTokens.Width != dims[2] || c.Photos != 2 || c.Method != imageprompt.Method || c.BaseModel != "base" || c.Encoder != a.Version() {
				t.Errorf("%+v", c)
			}
			blank, _, err := file.Float32("blank_tokens")
			if err != nil {
				t.Fatal(err)
			}
			p := a.ImagePrompts()
			near(t, "blank_tokens", p.Blank, blank)
			if p.Tokens != dims[1] {
				t.Errorf("%d tokens, want %d", p.Tokens, dims[1])
			}
			one, err := a.Encode(t.Context(), photos(t, a, "wide"), "me", "cat", "base")
			if err != nil {
				t.Fatal(err)
			}
			near(t, "tokens of one photo", one.ImageTokens.Data, want[len(want)/2:])
		})
	}
}

// vectors recognises nothing: it gives one face after the other of a golden case, longer than they are.
type vectors struct {
	values []float32 // [faces, numbers]
	width  int
	seen   int
}

func (v *vectors) Size() int    { return 16 }
func (v *vectors) Close() error { return nil }

func (v *vectors) Recognise(_ context.Context, face []float32) ([]float32, error) {
	if len(face) != 3*16*16 {
		return nil, fmt.Errorf("a face of %d values", len(face))
	}
	long := slices.Clone(v.values[v.seen*v.width:][:v.width])
	for i := range long {
		long[i] *= 7
	}
	v.seen++
	return long, nil
}

// A FaceID adapter reads a recogniser's vectors, of length 1; nobody is a vector of zeros.
func TestFaces(t *testing.T) {
	for _, name := range []string{"faceid_a", "faceid_b"} {
		file, err := safetensors.Open(filepath.Join(cases, name, "io.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		values, dims, err := file.Float32("face_embeds")
		if err != nil {
			t.Fatal(err)
		}
		recogniser := &vectors{values: values, width: dims[1]}
		named := filepath.Join(cases, "tall.png") // stands for the recogniser's file
		a, err := imageprompt.Open(t.Context(), filepath.Join(cases, name, "adapter.safetensors"), named, backend, func(path string) (imageprompt.Recogniser, error) {
			if path != named {
				t.Error(path)
			}
			return recogniser, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		face := &encoder.Photo{Image: image.NewRGBA(image.Rect(0, 0, 16, 16)), Hash: "x"}
		c, err := a.Encode(t.Context(), []*encoder.Photo{face, face}, "me", "cat", "base")
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := file.Float32("image_tokens")
		if err != nil {
			t.Fatal(err)
		}
		near(t, "image_tokens", c.ImageTokens.Data, want)
		blank, dims, err := file.Float32("blank_tokens")
		if err != nil {
			t.Fatal(err)
		}
		near(t, "blank_tokens", a.ImagePrompts().Blank, blank)
		if p := a.ImagePrompts(); p.Tokens != dims[1] || p.Rank != map[string]int{"faceid_a": 3, "faceid_b": 2}[name] || a.Cut() != encoder.Recognised || a.Size() != 16 {
			t.Errorf("%d tokens, rank %d, cut %v of %d pixels", p.Tokens, p.Rank, a.Cut(), a.Size())
		}
		recogniser.values, recogniser.seen = make([]float32, len(values)), 0
		if _, err := a.Encode(t.Context(), []*encoder.Photo{face}, "me", "cat", "base"); err == nil || !strings.Contains(err.Error(), "length 0") {
			t.Error(err)
		}
	}
}

// Tokens go to the adapter that made them alone.
func TestTokens(t *testing.T) {
	a, b := open(t, cases+"/base_a", backend), open(t, cases+"/base_b", backend)
	c, err := a.Encode(t.Context(), photos(t, a, "tall"), "me", "cat", "base")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Tokens(c); err != nil || !slices.Equal(got, c.ImageTokens.Data) {
		t.Error(got, err)
	}
	var other *imageprompt.OtherAdapterError
	for _, a := range []*imageprompt.Adapter{b, nil} {
		if _, err := a.Tokens(c); !errors.As(err, &other) || !strings.Contains(err.Error(), "<me>") {
			t.Error(err)
		}
	}
	c.ImageTokens.Data = nil
	if got, err := (*imageprompt.Adapter)(nil).Tokens(c); got != nil || err != nil {
		t.Error(got, err)
	}
	var wrong *encoder.PhotoError
	if _, err := a.Encode(t.Context(), nil, "me", "cat", "base"); !errors.As(err, &wrong) {
		t.Error(err)
	}
}

// What cannot be opened says why, and what to do.
func TestOpenRefuses(t *testing.T) {
	copied := func(remove string, tensors ...string) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(cases+"/plus_a")); err != nil {
			t.Fatal(err)
		}
		if remove != "" {
			if err := os.RemoveAll(filepath.Join(dir, remove)); err != nil {
				t.Fatal(err)
			}
		}
		if len(tensors) > 0 {
			without(t, filepath.Join(dir, "adapter.safetensors"), tensors)
		}
		return filepath.Join(dir, "adapter.safetensors")
	}
	for _, c := range []struct{ path, encoder, want string }{
		{copied("image_encoder"), "", "fetch the image_encoder folder"},
		{copied("image_encoder"), "", "hidden_size 16"},
		{copied("image_encoder/model.safetensors"), "", "model.safetensors"},
		{copied("image_encoder/config.json"), "", "it has no config.json"},
		{copied(""), "../../models/clip/testdata/vision_gelu", "width 24 of 3 colours, the adapter reads 16"},
		{copied("", "image_proj.norm_out.bias", "image_proj.layers.3.1.1.weight"), "", "norm_out.bias"},
		{copied("", "image_proj.norm_out.bias", "image_proj.layers.3.1.1.weight"), "", "layers.3.1.1.weight"},
		{cases + "/base_a/image_encoder/model.safetensors", "", "no IP-Adapter"},
		{cases + "/faceid_a/adapter.safetensors", "", "a face recogniser as an ONNX file"},
	} {
		_, err := imageprompt.Open(t.Context(), c.path, c.encoder, backend, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// Weights that are not numbers are noticed before anything is served.
func TestWeightsThatAreNoNumbers(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(cases+"/base_a")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "adapter.safetensors")
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tensors := map[string]safetensors.Tensor{}
	for _, name := range file.Names() {
		if tensors[name], err = file.Tensor(name); err != nil {
			t.Fatal(err)
		}
	}
	values, shape, err := file.Float32("image_proj.proj.weight")
	if err != nil {
		t.Fatal(err)
	}
	values[5] = float32(math.NaN())
	tensors["image_proj.proj.weight"] = safetensors.F32(values, shape...)
	if err := safetensors.Write(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := imageprompt.Open(t.Context(), path, "", backend, nil); err == nil || !strings.Contains(err.Error(), "not numbers") {
		t.Error(err)
	}
}

// without rewrites a file without some of its tensors.
func without(t *testing.T, path string, tensors []string) {
	t.Helper()
	file, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	kept := map[string]safetensors.Tensor{}
	for _, name := range file.Names() {
		if !slices.Contains(tensors, name) {
			if kept[name], err = file.Tensor(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := safetensors.Write(path, kept, nil); err != nil {
		t.Fatal(err)
	}
}

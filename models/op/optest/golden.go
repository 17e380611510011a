package optest

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/safetensors"
)

// Folders lists the folders that match pattern, of which there must be some.
func Folders(t testing.TB, pattern string) []string {
	t.Helper()
	folders, err := filepath.Glob(pattern)
	if err != nil || len(folders) == 0 {
		t.Fatalf("%s: no folders (%v)", pattern, err)
	}
	return folders
}

// Read reads all tensors of a safetensors file.
func Read(t testing.TB, path string) map[string]op.Array {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	arrays := map[string]op.Array{}
	for _, name := range f.Names() {
		var a op.Array
		if info, _ := f.Info(name); info.DType == safetensors.TypeI64 {
			a.I64, a.Dims, err = f.Int64(name)
		} else {
			a.F32, a.Dims, err = f.Float32(name)
		}
		if err != nil {
			t.Fatal(err)
		}
		arrays[name] = a
	}
	return arrays
}

// Manifest fails where the weights of the models, taken together, are not exactly those given, by name and dims.
func Manifest(t testing.TB, weights map[string]op.Array, models ...op.Model) {
	t.Helper()
	wanted := map[string]bool{}
	for _, model := range models {
		list, err := trace.Weights(model)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range list {
			wanted[w.Name] = true
			if a, ok := weights[w.Name]; !ok || !slices.Equal(a.Dims, w.Dims) {
				t.Errorf("weight %s: dims %v, the model's are %v", w.Name, a.Dims, w.Dims)
			}
		}
	}
	for name := range weights {
		if !wanted[name] {
			t.Errorf("weight %s: the model has none of this name", name)
		}
	}
}

// Merge returns the weights with one sample's packed offsets, of several concepts, added to them.
func Merge(weights map[string]op.Array, layout *op.Layout, packed []float32) map[string]op.Array {
	merged := maps.Clone(weights)
	for _, target := range layout.Targets() {
		name := target.Path + ".weight"
		w := slices.Clone(weights[name].F32) // [Out, In]
		down, up, _ := layout.Span(target.Path)
		for start := 0; start < len(packed); start += layout.Size() {
			for r := range layout.Rank {
				for o := range target.Out {
					for i := range target.In {
						w[o*target.In+i] += packed[start+down+r*target.In+i] * packed[start+up+r*target.Out+o]
					}
				}
			}
		}
		merged[name] = op.Floats(w, target.Out, target.In)
	}
	return merged
}

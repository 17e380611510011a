package ort_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/op"
	"likeness/models/safetensors"
)

// cached is y = x·W [B, 64] → [B, 32], with W in float16 in a file of its own.
type cached struct {
	weights, cache string // the file and the cache's folder
}

func newCached(t *testing.T) cached {
	c := cached{filepath.Join(t.TempDir(), "w.safetensors"), filepath.Join(t.TempDir(), "made", "here")}
	c.write(t, 1)
	return c
}

// write makes all weights v.
func (c cached) write(t *testing.T, v float32) {
	t.Helper()
	if err := safetensors.Write(c.weights, map[string]safetensors.Tensor{"w": safetensors.F16(full(v, 64, 32).F32, 64, 32)}, nil); err != nil {
		t.Fatal(err)
	}
}

func full(v float32, dims ...int) op.Array {
	a := zeros(dims...)
	for i := range a.F32 {
		a.F32[i] = v
	}
	return a
}

// open gives the session, or the error.
func (c cached) open(t *testing.T) (*ort.Session, error) {
	t.Helper()
	g, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"y": s.Input("x", op.Float32, -1, 64).MatMul(s.Weight("w", 64, 32))}
	}, onnx.FromFile(openFile(t, c.weights)), onnx.Options{Name: "cached"})
	if err != nil {
		t.Fatal(err)
	}
	return ort.Open(g, ort.Options{Threads: 1, Cache: c.cache})
}

// is opens the graph and holds that every weight is v.
func (c cached) is(t *testing.T, v float32) {
	t.Helper()
	s, err := c.open(t)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	within(t, "y", run(t, s, map[string]op.Array{"x": full(1, 2, 64)})["y"], full(64*v, 2, 32), 0)
}

// graphs are the cache's folders.
func (c cached) graphs(t *testing.T) (folders []string) {
	t.Helper()
	entries, err := os.ReadDir(c.cache)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != ".lock" {
			folders = append(folders, filepath.Join(c.cache, entry.Name()))
		}
	}
	return folders
}

// A second session reads what the first left in the cache, and nothing else.
func TestCache(t *testing.T) {
	c := newCached(t)
	c.is(t, 1)
	folders := c.graphs(t)
	if len(folders) != 1 {
		t.Fatalf("the cache holds %v", folders)
	}
	path := filepath.Join(folders[0], "weights.data")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	one := []byte{0, 0, 128, 63}
	if bytes.Count(data, one) < 64*32 {
		t.Errorf("%s lacks the weights", path)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, one, []byte{0, 0, 0, 64}), 0o644); err != nil {
		t.Fatal(err)
	}
	c.is(t, 2)
}

// Weights that were written anew are other weights; so they are with the size and the time of the old ones.
func TestCacheOfChangedWeights(t *testing.T) {
	c := newCached(t)
	c.is(t, 1)
	stat, err := os.Stat(c.weights)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, 3)
	if err := os.Chtimes(c.weights, time.Time{}, stat.ModTime()); err != nil {
		t.Fatal(err)
	}
	c.is(t, 3)
	if folders := c.graphs(t); len(folders) != 2 {
		t.Errorf("the cache holds %v", folders)
	}
}

// What is not whole is made again, what nobody has used for long goes, what is not the cache's stays.
func TestCacheHeals(t *testing.T) {
	c := newCached(t)
	c.is(t, 1)
	first := c.graphs(t)[0]
	for _, spoil := range []func() error{
		func() error { return os.Truncate(filepath.Join(first, "weights.data"), 100) },
		func() error { return os.Remove(filepath.Join(first, "weights.data")) },
		func() error { return os.Truncate(filepath.Join(first, "graph.onnx"), 50) },
		func() error { return os.Remove(filepath.Join(first, "graph.onnx")) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		c.is(t, 1)
	}
	long := time.Now().Add(-31 * 24 * time.Hour)
	left, other := filepath.Join(c.cache, ".new"), filepath.Join(c.cache, "other")
	for _, path := range []string{left, other} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{left, other, first} {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	c.write(t, 5)
	c.is(t, 5)
	if folders := c.graphs(t); len(folders) != 2 || strings.Contains(strings.Join(folders, " "), first) {
		t.Errorf("the cache holds %v", folders)
	}
}

// Weights behind one of an odd length run as others do, where a processor loads packed ones with instructions that want them aligned.
func TestCacheOfOddWeights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w.safetensors")
	tensors := map[string]safetensors.Tensor{"odd": safetensors.F32(full(1, 1, 257).F32, 1, 257), "w": safetensors.F32(full(1, 64, 64).F32, 64, 64)}
	if err := safetensors.Write(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	g, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor {
		first := s.Input("x", op.Float32, -1, 257).Add(s.Weight("odd", 1, 257))
		return map[string]op.Tensor{"first": first, "y": s.Input("z", op.Float32, -1, 64).Linear(s.Weight("w", 64, 64), s.Const(make([]float32, 64), 64))}
	}, onnx.FromFile(openFile(t, path)), onnx.Options{Name: "odd"})
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(t.TempDir(), "cache")
	for range 2 {
		s, err := ort.Open(g, ort.Options{Threads: 1, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		out := run(t, s, map[string]op.Array{"x": full(2, 20, 257), "z": full(1, 20, 64)})
		within(t, "first", out["first"], full(3, 20, 257), 0)
		within(t, "y", out["y"], full(64, 20, 64), 0)
		s.Close()
	}
}

// Whoever is second finds what the first has made.
func TestCacheAtTheSameTime(t *testing.T) {
	c := newCached(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			s, err := c.open(t)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wait.Wait()
	if folders := c.graphs(t); len(folders) != 1 {
		t.Errorf("the cache holds %v", folders)
	}
}

// A cache that cannot be is an error that names it.
func TestCacheThatCannotBe(t *testing.T) {
	c := newCached(t)
	c.cache = filepath.Join(c.weights, "under-a-file")
	if _, err := c.open(t); err == nil || !strings.Contains(err.Error(), c.cache) || !strings.Contains(err.Error(), "graph cached") {
		t.Error(err)
	}
}

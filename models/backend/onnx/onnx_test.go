package onnx

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/op"
	"likeness/models/safetensors"
)

// output makes a model that returns one tensor.
func output(f func(op.Scope) op.Tensor) op.Model {
	return func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": f(s)} }
}

func TestEmitListsWeights(t *testing.T) {
	weights := FromArrays(map[string]op.Array{"b.weight": op.Floats(make([]float32, 6), 2, 3), "c.weight": op.Floats(make([]float32, 3), 2, 2)})
	_, err := Emit(output(func(s op.Scope) op.Tensor {
		a, b, c := s.At("a").Weight("weight", 3), s.At("b").Weight("weight", 3, 2), s.At("c").Weight("weight", 2, 2)
		return b.MatMul(c).Transpose(1, 0).Add(a)
	}), weights, Options{Name: "net"})
	var wrong *WeightsError
	if !errors.As(err, &wrong) || len(wrong.Problems) != 3 {
		t.Fatalf("error is %v, want three weights", err)
	}
	for i, want := range []string{"a.weight [3]: missing", "b.weight [3 2]: is F32 [2 3]", "c.weight [2 2]: is F32 [2 2] of 12 bytes"} {
		if !strings.HasPrefix(wrong.Problems[i], want) {
			t.Errorf("problem %d is %q, want %q", i, wrong.Problems[i], want)
		}
	}
}

func TestEmitIsRepeatable(t *testing.T) {
	emit := func() []byte {
		g, err := Emit(output(func(s op.Scope) op.Tensor {
			x := s.Input("x", op.Float32, -1, 4, -1, -1)
			w := s.Weight("w", 4)
			return x.GroupNorm(2, w, w, 1e-5).SiLU().Pad(1, 0, 0, 1).Upsample2x().Scale(2).Softmax(1)
		}), FromArrays(map[string]op.Array{"w": op.Floats([]float32{1, 2, 3, 4}, 4)}), Options{Name: "net"})
		if err != nil {
			t.Fatal(err)
		}
		return g.Model
	}
	if first, second := emit(), emit(); !bytes.Equal(first, second) {
		t.Error("two emissions of one model differ")
	}
}

func TestPorts(t *testing.T) {
	g, err := Emit(func(s op.Scope) map[string]op.Tensor {
		ids := s.Input("ids", op.Int64, -1, 7)
		x := s.Input("a", op.Float32, -1, 3).Slice(1, 1, 3)
		return map[string]op.Tensor{"z": x.Concat(1, x, s.Input("a", op.Float32, -1, 3)), "ids_out": ids}
	}, nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(got []Port, want ...Port) {
		if !slices.EqualFunc(got, want, func(a, b Port) bool { return a.Name == b.Name && a.DType == b.DType && slices.Equal(a.Dims, b.Dims) }) {
			t.Errorf("ports are %v, want %v", got, want)
		}
	}
	check(g.Inputs, Port{"a", op.Float32, []int{-1, 3}}, Port{"ids", op.Int64, []int{-1, 7}})
	check(g.Outputs, Port{"ids_out", op.Int64, []int{-1, 7}}, Port{"z", op.Float32, []int{-1, 7}})
}

// TestExternalFolder finds the folder that all weight files are in, and no copy of their bytes in the graph.
func TestExternalFolder(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{"u": "sd/unet/m.safetensors", "v": "sd/unet/n.safetensors", "e": "sd/unet/sub/m.safetensors", "o": "sd/unet2/m.safetensors"}
	for _, path := range at {
		os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o755)
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	weights := func(name string) (Weight, bool) {
		info := safetensors.Info{DType: safetensors.TypeF32, Shape: []int{2}, Offset: 64, Length: 8}
		return Weight{Location: safetensors.Location{Info: info, Path: filepath.Join(root, at[name])}}, true
	}
	for _, c := range []struct {
		names           []string
		folder, locates string
	}{
		{[]string{"u"}, "sd/unet", "m.safetensors"},
		{[]string{"v", "u"}, "sd/unet", "m.safetensors"},
		{[]string{"e", "u"}, "sd/unet", "sub/m.safetensors"},
		{[]string{"u", "e"}, "sd/unet", "sub/m.safetensors"},
		{[]string{"u", "o"}, "sd", "unet2/m.safetensors"},
		{[]string{"e", "v", "o"}, "sd", "unet/n.safetensors"},
	} {
		g, err := Emit(output(func(s op.Scope) op.Tensor {
			y := s.Const([]float32{0})
			for _, name := range c.names {
				y = y.Add(s.Weight(name, 2))
			}
			return y
		}), weights, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if g.Folder != filepath.Join(root, c.folder) || !bytes.Contains(g.Model, append([]byte{byte(len(c.locates))}, c.locates...)) {
			t.Errorf("%v: folder %s, want %s and the location %s in it", c.names, g.Folder, c.folder, c.locates)
		}
	}
}

// TestEmitRefuses gives every operation arguments that do not fit; the error names the weight path or the output.
func TestEmitRefuses(t *testing.T) {
	weights := func(string) (Weight, bool) {
		return Weight{Location: safetensors.Location{Info: safetensors.Info{DType: safetensors.TypeF32, Shape: []int{4}, Length: 16}}, Data: make([]byte, 16)}, true
	}
	for name, f := range map[string]func(s op.Scope, x, w op.Tensor) op.Tensor{
		"Add":       func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Add(s.Const(make([]float32, 3), 3)) },
		"Sub":       func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Sub(x.Cast(op.Int64)) },
		"Exp":       func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Cast(op.Int64).Exp() },
		"MatMul":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.MatMul(s.Const(make([]float32, 3), 3, 1)) },
		"Linear":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Linear(w, w) },
		"Conv2D":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Conv2D(w, op.Tensor{}, 1, 0) },
		"GroupNorm": func(s op.Scope, x, w op.Tensor) op.Tensor { return x.GroupNorm(3, w, w, 1e-5) },
		"LayerNorm": func(s op.Scope, x, w op.Tensor) op.Tensor { return x.LayerNorm(w, op.Tensor{}, 1e-5) },
		"Attention": func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Attention(x, x, op.Tensor{}, 3, 2) },
		"Softmax":   func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Softmax(3) },
		"Mean":      func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Mean() },
		"ArgMax":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.ArgMax(-4) },
		"Where":     func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Where(x, x) },
		"Reshape":   func(s op.Scope, x, w op.Tensor) op.Tensor { return w.Reshape(3, -1) },
		"Reshape 0": func(s op.Scope, x, w op.Tensor) op.Tensor { return w.ReshapeLike(w, 2, 0) },
		"Transpose": func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Transpose(0, 1, 1) },
		"Concat":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Concat(1, w) },
		"Slice":     func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Slice(2, 2, 5) },
		"Gather":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Gather(w) },
		"Expand":    func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Expand(w) },
		"Pad":       func(s op.Scope, x, w op.Tensor) op.Tensor { return x.Pad(-1, 0, 0, 0) },
		"Upsample":  func(s op.Scope, x, w op.Tensor) op.Tensor { return w.Upsample2x() },
		"Input":     func(s op.Scope, x, w op.Tensor) op.Tensor { return s.Input("x", op.Int64, -1, 2, 4) },
		"Const":     func(s op.Scope, x, w op.Tensor) op.Tensor { return s.Const([]float32{1, 2}, 3) },
	} {
		_, err := Emit(output(func(s op.Scope) op.Tensor {
			s = s.At("block", "layer")
			return f(s, s.Input("x", op.Float32, -1, -1, 4), s.Weight("weight", 4))
		}), weights, Options{Name: "net"})
		var wrong *op.Error
		if !errors.As(err, &wrong) || wrong.Path != "block.layer" {
			t.Errorf("%s: error is %v, want an op.Error of block.layer", name, err)
		}
	}
	for name, f := range map[string]func(op.Scope) op.Tensor{
		"a bool output":                func(s op.Scope) op.Tensor { x := s.Input("x", op.Float32, 1); return x.Less(x) },
		"an output named as the input": func(s op.Scope) op.Tensor { return s.Input("y", op.Float32, 1) },
	} {
		if _, err := Emit(output(f), nil, Options{}); err == nil || !strings.Contains(err.Error(), `output "y"`) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

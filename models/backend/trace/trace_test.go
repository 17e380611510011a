package trace_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// TestSuite holds the recorded dims against those that the reference computes, and refuses what must be refused.
func TestSuite(t *testing.T) {
	optest.Run(t, 0, func(model op.Model, weights, inputs map[string]op.Array) (map[string]op.Array, error) {
		r, err := trace.Model(model)
		if err != nil {
			return nil, err
		}
		out, err := ref.Run(model, weights, inputs)
		if err != nil {
			return nil, err
		}
		static := true
		for _, p := range r.Inputs {
			static = static && !slices.Contains(p.Dims, -1)
		}
		for name, a := range out {
			dims := r.Outputs[name]
			fits := len(dims) == len(a.Dims)
			for i := 0; fits && i < len(dims); i++ {
				fits = dims[i] == a.Dims[i] || dims[i] == -1 && !static
			}
			if !fits {
				return nil, fmt.Errorf("recorded dims %v, computed %v", dims, a.Dims)
			}
		}
		return out, nil
	})
}

// pair is two linear layers and what else a record has to list.
func pair(s op.Scope) map[string]op.Tensor {
	x := s.Input("x", op.Float32, -1, -1, 4)
	at := s.Input("at", op.Int64, -1)
	h := x.Linear(s.At("b").Weight("weight", 6, 4), s.At("b").Weight("bias", 6))
	h = h.Linear(s.At("a", "0").Weight("weight", 3, 6), op.Tensor{})
	return map[string]op.Tensor{"h": h, "row": s.At("c").Weight("table", 7, 3).Gather(at), "mean": h.Mean(-1)}
}

func TestModel(t *testing.T) {
	r, err := trace.Model(pair)
	if err != nil {
		t.Fatal(err)
	}
	want := "[{a.0.weight [3 6]} {b.bias [6]} {b.weight [6 4]} {c.table [7 3]}] [{at int64 [-1]} {x float32 [-1 -1 4]}] map[h:[-1 -1 3] mean:[-1 -1 1] row:[-1 3]]"
	if got := fmt.Sprint(r.Weights, r.Inputs, r.Outputs); got != want {
		t.Errorf("the record is\n%s, want\n%s", got, want)
	}
	if r.Ops["MatMul"] != 2 || r.Ops["Gather"] != 1 || r.Ops["Conv2D"] != 0 {
		t.Errorf("operations are %v", r.Ops)
	}
}

func TestLayout(t *testing.T) {
	all := func(string) bool { return true }
	l, err := trace.Layout(pair, 2, all)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(l.Targets()), "[{a.0 6 3} {b 4 6}]"; got != want {
		t.Errorf("targets are %s, want %s", got, want)
	}
	only, err := trace.Layout(pair, 2, func(path string) bool { return path == "b" })
	if err != nil || only.Size() != 2*(4+6) {
		t.Errorf("the layout of one target has size %d and error %v, want 20", only.Size(), err)
	}
	if _, err := trace.Layout(pair, 2, func(string) bool { return false }); err == nil || !strings.Contains(err.Error(), "no linear layer") {
		t.Errorf("no target: the error is %v", err)
	}
}

// TestRefuses holds declarations that contradict each other or what is known.
func TestRefuses(t *testing.T) {
	for name, f := range map[string]func(s op.Scope, x op.Tensor) op.Tensor{
		"weight has dims [5], want [4]": func(s op.Scope, x op.Tensor) op.Tensor { return x.LayerNorm(s.Weight("w", 5), s.Weight("w", 5), 1e-5) },
		"is used with dims":             func(s op.Scope, x op.Tensor) op.Tensor { return s.Weight("w", 5).Add(s.Weight("w", 1)) },
		"input x is declared":           func(s op.Scope, x op.Tensor) op.Tensor { return s.Input("x", op.Float32, -1, 5) },
		"wants float32 tensors":         func(s op.Scope, x op.Tensor) op.Tensor { return x.Cast(op.Int64).Exp() },
		"an operand is missing":         func(s op.Scope, x op.Tensor) op.Tensor { return x.Add(op.Tensor{}) },
		"dims [-1 4] and [-1 -1 3]":     func(s op.Scope, x op.Tensor) op.Tensor { return x.Add(s.Input("y", op.Float32, -1, -1, 3)) },
	} {
		_, err := trace.Model(func(s op.Scope) map[string]op.Tensor {
			return map[string]op.Tensor{"y": f(s, s.Input("x", op.Float32, -1, 4))}
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

//go:build torch

package torch

import (
	"errors"
	"math"
	"strings"
	"testing"

	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// blocks are a chain of resnets, each of which also reads a sum that needs a gradient where sum is trained.
func blocks(s op.Scope) map[string]op.Tensor {
	h := s.Input("x", op.Float32, -1, 8, 4, 4)
	temb := s.At("temb").Weight("weight", 2, 6)
	skip := h
	for i := range 4 {
		at := s.Index("resnets", i)
		h = at.Block(func(xs []op.Tensor) op.Tensor {
			if xs[2].Ok() && xs[2].Value() != nil {
				panic("an absent input is there")
			}
			return nn.Resnet{In: 8, Out: 8, Groups: 4, Eps: 1e-5, TimeWidth: 6}.Forward(at, xs[0], xs[1]).Add(xs[3])
		}, h, temb, op.Tensor{}, skip)
	}
	return map[string]op.Tensor{"loss": h.Mul(h).Mean(0, 1, 2, 3), "h": h}
}

// Gradients and results of blocks that are computed again are those of blocks that are kept, whichever weights are trained; in bfloat16 too.
func TestRecompute(t *testing.T) {
	all := map[string]op.Array{"temb.weight": optest.Normal("temb.weight", 2, 6)}
	for name, dims := range map[string][]int{"norm1": {8}, "conv1": {8, 8, 3, 3}, "time_emb_proj": {8, 6}, "norm2": {8}, "conv2": {8, 8, 3, 3}} {
		for i := range 4 {
			path := "resnets." + string(rune('0'+i)) + "." + name
			all[path+".weight"], all[path+".bias"] = scaled(optest.Normal(path, dims...), 0.5), scaled(optest.Normal(path+".bias", dims[0]), 0.5)
		}
	}
	inputs := map[string]op.Array{"x": optest.Normal("x", 2, 8, 4, 4)}
	again := func(s op.Scope) map[string]op.Tensor { return blocks(s.WithRecompute()) }
	for _, precision := range []Precision{Float32, BFloat16} {
		e := start(t, precision)
		for _, trained := range []string{"", "resnets.2.", "temb.", "resnets.0.conv1.weight"} {
			frozen, moved := map[string]op.Array{}, map[string]op.Array{}
			for name, a := range all {
				if strings.HasPrefix(name, trained) {
					moved[name] = a
				} else {
					frozen[name] = a
				}
			}
			run := func(model op.Model) (gradients, outputs map[string]op.Array) {
				p, q := params(t, e, moved, true), params(t, e, frozen, false)
				for range 2 { // gathered over two batches
					var err error
					if outputs, err = e.Backward(model, inputs, p, q); err != nil {
						t.Fatal(err)
					}
				}
				gradients, err := p.Gradients()
				if err != nil {
					t.Fatal(err)
				}
				return gradients, outputs
			}
			want, wantOut := run(blocks)
			got, gotOut := run(again)
			if len(got) != len(want) || len(got) != len(moved) {
				t.Fatalf("trained %q: gradients of %d weights, want %d of %d", trained, len(got), len(want), len(moved))
			}
			for name, w := range want {
				for i, v := range w.F32 {
					if d := math.Abs(float64(got[name].F32[i] - v)); d > 1e-6*max(1, math.Abs(float64(v))) {
						t.Fatalf("trained %q: gradient of %s at %d: %g, want %g", trained, name, i, got[name].F32[i], v)
					}
				}
			}
			for i, v := range wantOut["h"].F32 {
				if gotOut["h"].F32[i] != v {
					t.Fatalf("trained %q: result %g, want %g", trained, gotOut["h"].F32[i], v)
				}
			}
		}
	}
}

// What goes wrong in a block is an error with its path, the first time as well as in the backward pass.
func TestBlockErrors(t *testing.T) {
	e := start(t, Float32)
	p := params(t, e, map[string]op.Array{"a.weight": optest.Normal("a", 3, 3)}, true)
	calls := 0
	for _, failing := range []int{1, 2} {
		calls = 0
		_, err := e.Backward(func(s op.Scope) map[string]op.Tensor {
			s = s.WithRecompute()
			y := s.At("a").Block(func(xs []op.Tensor) op.Tensor {
				if calls++; calls == failing {
					s.At("a").Fail("call %d", calls)
				}
				return xs[0].MatMul(s.At("a").Weight("weight", 3, 3))
			}, s.Input("x", op.Float32, 2, 3))
			return map[string]op.Tensor{"loss": y.Mean(0, 1)}
		}, map[string]op.Array{"x": optest.Normal("x", 2, 3)}, p)
		var at *op.Error
		if err == nil || !strings.Contains(err.Error(), "a: config: call") || failing == 1 && !errors.As(err, &at) {
			t.Errorf("call %d fails: %v", failing, err)
		}
	}
}

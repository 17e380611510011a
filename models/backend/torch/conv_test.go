//go:build torch

package torch

import (
	"fmt"
	"testing"

	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// 3×3 convolutions and their gradients are those of libtorch, which images that are padded before take.
func TestConv3x3(t *testing.T) {
	for _, dims := range [][5]int{{2, 8, 16, 9, 11}, {2, 16, 8, 34, 31}, {3, 5, 24, 8, 8}, {1, 8, 12, 9, 9}, {1, 8, 8, 3, 3}} {
		t.Run(fmt.Sprint(dims), func(t *testing.T) {
			b, in, out, h, w := dims[0], dims[1], dims[2], dims[3], dims[4]
			own := func(s op.Scope, x op.Tensor) op.Tensor { return nn.Conv2D(s, x, in, out, 3, 1, 1) }
			padded := func(s op.Scope, x op.Tensor) op.Tensor { return nn.Conv2D(s, x.Pad(1, 1, 1, 1), in, out, 3, 1, 0) }
			image := map[string]op.Array{"x": optest.Normal("x", b, in, h, w)}
			kernel := map[string]op.Array{"conv.weight": optest.Normal("weight", out, in, 3, 3), "conv.bias": optest.Normal("bias", out)}
			for _, trained := range []bool{false, true} { // the kernel
				run := func(conv func(op.Scope, op.Tensor) op.Tensor) map[string]op.Array {
					e := start(t, Float32)
					x, k := params(t, e, image, true), params(t, e, kernel, trained)
					values, err := e.Backward(func(s op.Scope) map[string]op.Tensor {
						y := conv(s.At("conv"), s.Weight("x", b, in, h, w))
						return map[string]op.Tensor{"y": y, "loss": y.Mul(y).Mean(0, 1, 2, 3)}
					}, nil, x, k)
					if err != nil {
						t.Fatal(err)
					}
					for _, p := range []*Params{x, k} {
						if p == k && !trained {
							continue
						}
						gradients, err := p.Gradients()
						if err != nil {
							t.Fatal(err)
						}
						for name, g := range gradients {
							values[name] = g
						}
					}
					return values
				}
				got, want := run(own), run(padded)
				if len(got) != len(want) {
					t.Fatalf("%d arrays, want %d", len(got), len(want))
				}
				for name, a := range want {
					optest.Near(t, name, got[name], a, 1e-4)
				}
			}
		})
	}
}

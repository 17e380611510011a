//go:build torch

package torch

import (
	"math"
	"testing"

	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// GroupNorm of an image that a convolution left in bfloat16: output and gradients are float32's but for rounding.
func TestGroupNormInBFloat16(t *testing.T) {
	model := func(s op.Scope) map[string]op.Tensor {
		x := nn.Conv2D(s.At("conv"), s.Input("x", op.Float32, 3, 6, 5, 7), 6, 6, 1, 1, 0).Offset(2)
		y := nn.GroupNorm(s.At("norm"), x, 3, 6, 1e-5)
		d := y.Sub(s.Input("target", op.Float32, 3, 6, 5, 7))
		return map[string]op.Tensor{"loss": d.Mul(d).Mean(0, 1, 2, 3), "y": y}
	}
	weights := map[string]op.Array{
		"conv.weight": optest.Normal("conv.weight", 6, 6, 1, 1), "conv.bias": optest.Normal("conv.bias", 6),
		"norm.weight": optest.Normal("norm.weight", 6), "norm.bias": optest.Normal("norm.bias", 6),
	}
	inputs := map[string]op.Array{"x": optest.Normal("x", 3, 6, 5, 7), "target": optest.Normal("target", 3, 6, 5, 7)}
	run := func(compute Precision) (out, gradients map[string]op.Array) {
		e := start(t, compute)
		p := params(t, e, weights, true)
		out, err := e.Backward(model, inputs, p)
		if err != nil {
			t.Fatal(err)
		}
		if gradients, err = p.Gradients(); err != nil {
			t.Fatal(err)
		}
		return out, gradients
	}
	want, wantGradients := run(Float32)
	got, gotGradients := run(BFloat16)
	optest.Near(t, "y", got["y"], want["y"], 0.05)
	for name, w := range wantGradients {
		largest := 0.0
		for _, v := range w.F32 {
			largest = math.Max(largest, math.Abs(float64(v)))
		}
		optest.Near(t, name, gotGradients[name], w, 0.02*largest)
	}
}

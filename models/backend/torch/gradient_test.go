//go:build torch

package torch

import (
	"math"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/op/optest"
)

const side = 4

// network is one of everything that networks are made of; the loss is the mean square of its output.
func network(s op.Scope) map[string]op.Tensor {
	x := s.Input("x", op.Float32, -1, 3, 2*side, 2*side)
	h := nn.Conv2D(s.At("conv_in"), x, 3, 8, 3, 2, 1) // [B, 8, 4, 4]
	resnet := nn.Resnet{In: 8, Out: 12, Groups: 4, Eps: 1e-5, TimeWidth: 6}
	h = resnet.Forward(s.At("resnet"), h, nn.TimestepEmbedding(s, s.Input("t", op.Float32, -1), 6, true, 0)) // [B, 12, 4, 4]
	words := s.At("embedding").Weight("weight", 7, 12).Gather(s.Input("ids", op.Int64, -1, 5))               // [B, 5, 12]
	words = nn.LayerNorm(s.At("norm"), words, 12, 1e-5)
	tokens := nn.Tokens(h, 12) // [B, 16, 12]
	query := nn.Linear(s.At("q"), tokens, 12, 12, false)
	key, value := nn.Linear(s.At("k"), words, 12, 12, false), nn.Linear(s.At("v"), words, 12, 12, true).GELU()
	tokens = tokens.Add(query.Attention(key, value, op.Tensor{}, 3, 4))
	h = h.Concat(1, nn.Image(tokens, h)).Upsample2x() // [B, 24, 8, 8]
	h = nn.GroupNorm(s.At("norm_out"), h, 3, 24, 1e-5).SiLU()
	y := nn.Conv2D(s.At("conv_out"), h, 24, 2, 3, 1, 1).Tanh()
	weights := y.Mean(1, 2, 3).Reshape(1, -1).Softmax(1).Reshape(-1, 1, 1, 1) // [B, 1, 1, 1]
	d := y.Mul(weights).Sub(s.Input("target", op.Float32, -1, 2, 2*side, 2*side))
	return map[string]op.Tensor{"loss": d.Mul(d).Offset(0.1).Sqrt().Mean(0, 1, 2, 3), "y": y}
}

// example returns weights of the network and inputs.
func example(t testing.TB) (weights, inputs map[string]op.Array) {
	t.Helper()
	list, err := trace.Weights(network)
	if err != nil {
		t.Fatal(err)
	}
	weights = map[string]op.Array{}
	for _, w := range list {
		weights[w.Name] = scaled(optest.Normal(w.Name, w.Dims...), 0.4)
	}
	return weights, map[string]op.Array{
		"x": optest.Normal("x", 2, 3, 2*side, 2*side), "target": optest.Normal("target", 2, 2, 2*side, 2*side),
		"t": op.Floats([]float32{3, 500}, 2), "ids": op.Ints([]int64{0, 1, 2, 6, 1, 4, 4, 3, 2, 0}, 2, 5),
	}
}

func scaled(a op.Array, by float32) op.Array {
	for i := range a.F32 {
		a.F32[i] *= by
	}
	return a
}

func gradients(t testing.TB, e *Engine, weights, inputs map[string]op.Array) map[string]op.Array {
	t.Helper()
	p := params(t, e, weights, true)
	if _, err := e.Backward(network, inputs, p); err != nil {
		t.Fatal(err)
	}
	g, err := p.Gradients()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The derivative of the reference's loss along a random direction of each weight, from two runs, against the gradient's.
func TestGradientsAgainstFiniteDifferences(t *testing.T) {
	weights, inputs := example(t)
	got := gradients(t, start(t, Float32), weights, inputs)
	const step = 1e-2
	for name, w := range weights {
		direction := optest.Normal("direction of "+name, w.Dims...)
		at := func(by float32) float64 {
			moved := op.Floats(append([]float32(nil), w.F32...), w.Dims...)
			for i, d := range direction.F32 {
				moved.F32[i] += by * d / float32(math.Sqrt(float64(len(w.F32))))
			}
			all := map[string]op.Array{}
			for other, v := range weights {
				all[other] = v
			}
			all[name] = moved
			out, err := ref.Run(network, all, inputs)
			if err != nil {
				t.Fatal(err)
			}
			return float64(out["loss"].F32[0])
		}
		want := (at(step) - at(-step)) / (2 * step)
		along, norm := 0.0, 0.0
		for i, d := range direction.F32 {
			g := float64(got[name].F32[i])
			along += g * float64(d) / math.Sqrt(float64(len(w.F32)))
			norm += g * g
		}
		if norm == 0 || math.Abs(along-want) > 1e-2*math.Sqrt(norm)+2e-5 {
			t.Errorf("%s: derivative %g, want %g (gradient's norm %g)", name, along, want, math.Sqrt(norm))
		}
	}
}

// In bfloat16 the gradients of all weights together are those of float32 but for rounding.
func TestGradientsInBFloat16(t *testing.T) {
	weights, inputs := example(t)
	want := gradients(t, start(t, Float32), weights, inputs)
	got := gradients(t, start(t, BFloat16), weights, inputs)
	for name, w := range want {
		apart, norm := 0.0, 0.0
		for i, v := range w.F32 {
			d := float64(got[name].F32[i] - v)
			apart, norm = apart+d*d, norm+float64(v)*float64(v)
		}
		if math.Sqrt(apart) > 0.05*math.Sqrt(norm) {
			t.Errorf("%s: the gradient is %.1f %% of its norm away from float32's", name, 100*math.Sqrt(apart/norm))
		}
	}
}

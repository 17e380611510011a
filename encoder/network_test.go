package encoder

import (
	"math/rand/v2"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/backend/trace"
	"likeness/models/nn"
	"likeness/models/op"
)

// Packed offsets and deltas are two ways to one change of a layer.
func TestDeltasAreTheOffsets(t *testing.T) {
	const in, out, batch = 6, 5, 3
	cfg := Config{Rank: 2, NumCoefficients: 4}
	layout, err := op.NewLayout(cfg.Rank, []op.Target{{Path: "a.to_v", In: 3, Out: 2}, {Path: "b.to_q", In: in, Out: out}})
	if err != nil {
		t.Fatal(err)
	}
	model := func(s op.Scope) map[string]op.Tensor {
		x := s.Input("x", op.Float32, -1, -1, in)
		coefficients := s.Input("coefficients", op.Float32, -1, 2*cfg.NumCoefficients)
		layer := func(s op.Scope) op.Tensor { return nn.Linear(s.At("b.to_q"), x, in, out, true) }
		return map[string]op.Tensor{
			"plain":  layer(s),
			"packed": layer(s.WithOffsets(layout, Offsets(s, cfg, layout, coefficients))),
			"shared": layer(s.WithDeltas(Deltas(s, cfg, layout, coefficients))),
		}
	}
	manifest, err := trace.Weights(model)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := func(dims ...int) op.Array {
		values := make([]float32, op.Size(dims))
		for i := range values {
			values[i] = float32(r.NormFloat64())
		}
		return op.Floats(values, dims...)
	}
	weights := map[string]op.Array{}
	for _, w := range manifest {
		weights[w.Name] = random(w.Dims...)
	}
	made, err := ref.Run(model, weights, map[string]op.Array{"x": random(batch, 4, in), "coefficients": random(batch, 2*cfg.NumCoefficients)})
	if err != nil {
		t.Fatal(err)
	}
	changed := false
	for i, want := range made["packed"].F32 {
		if d := made["shared"].F32[i] - want; d > 1e-5 || d < -1e-5 {
			t.Fatalf("value %d is %g by deltas, %g by offsets", i, made["shared"].F32[i], want)
		}
		changed = changed || made["plain"].F32[i] != want
	}
	if !changed {
		t.Error("the layer is as without a change")
	}
}

//go:build torch

package loop

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"likeness/models/backend/trace"
	"likeness/models/op"
)

// Init makes first weights for a model as PyTorch's layers do: matrices uniform within 1/√fan-in, norms one, biases zero, embeddings
// normal with a deviation of 0.02. Weights whose names end in one of zeros start at zero, so that the branch they end is silent at first.
func Init(model op.Model, seed uint64, zeros ...string) (map[string]op.Array, error) {
	manifest, err := trace.Weights(model)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(seed, 0x696e6974))
	weights := map[string]op.Array{}
	for _, w := range manifest {
		values := make([]float32, op.Size(w.Dims))
		fill(r, values, w, zeros)
		weights[w.Name] = op.Floats(values, w.Dims...)
	}
	return weights, nil
}

func fill(r *rand.Rand, values []float32, w trace.Weight, zeros []string) {
	ends := func(suffix string) bool { return strings.HasSuffix(w.Name, suffix) }
	switch {
	case slices.ContainsFunc(zeros, ends) || ends("bias"):
	case ends("embedding.weight") || len(w.Dims) == 1 && !ends("weight"):
		for i := range values {
			values[i] = float32(0.02 * r.NormFloat64())
		}
	case len(w.Dims) == 1:
		for i := range values {
			values[i] = 1
		}
	default:
		bound := 1 / math.Sqrt(float64(op.Size(w.Dims[1:])))
		for i := range values {
			values[i] = float32(bound * (2*r.Float64() - 1))
		}
	}
}

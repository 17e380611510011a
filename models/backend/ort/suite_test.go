package ort_test

import (
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// TestSuite holds emitted graphs, run by ONNX Runtime, against the reference.
func TestSuite(t *testing.T) { runSuite(t, false) }

// TestSuiteOfOwnOps does so with our own operators.
func TestSuiteOfOwnOps(t *testing.T) { runSuite(t, true) }

func runSuite(t *testing.T, ownOps bool) {
	optest.Run(t, 1e-4, func(model op.Model, weights, inputs map[string]op.Array) (map[string]op.Array, error) {
		g, err := onnx.Emit(model, onnx.FromArrays(weights), onnx.Options{Name: "suite", OwnOps: ownOps})
		if err != nil {
			return nil, err
		}
		s, err := ort.Open(g, ort.Options{Threads: 1})
		if err != nil {
			return nil, err
		}
		defer s.Close()
		return s.Run(t.Context(), inputs)
	})
}

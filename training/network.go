//go:build torch

package main

import (
	"fmt"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
)

// openNetwork makes a component's model run on ONNX Runtime, as serving does.
func openNetwork(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
	graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), onnx.Options{Name: name, OwnOps: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", weights.Path(), err)
	}
	return ort.Open(graph, ort.Options{})
}

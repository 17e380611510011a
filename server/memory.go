package main

import (
	"likeness/models/backend/trace"
	"likeness/models/op"
)

// weightBytes is what a model's weights take as float32, whatever files store.
func weightBytes(model op.Model) (int64, error) {
	weights, err := trace.Weights(model)
	var bytes int64
	for _, w := range weights {
		bytes += 4 * int64(op.Size(w.Dims))
	}
	return bytes, err
}

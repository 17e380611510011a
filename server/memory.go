package main

import (
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
)

// weightBytes is what the weights of a component's model take once they are open. A weight that no file stores counts as float32.
func (p placement) weightBytes(name string, model op.Model, stored *checkpoint.Component) (int64, error) {
	weights, err := trace.Weights(model)
	var bytes int64
	for _, w := range weights {
		info, _ := stored.Info(w.Name)
		size := int64(4)
		if !p.compiled(name) {
			size = openSize(info.DType)
		}
		bytes += size * int64(op.Size(w.Dims))
	}
	return bytes, err
}

// openSize is the bytes of a weight that the CPU computes with in float32: half precision is read as it lies in its file.
func openSize(stored safetensors.DType) int64 {
	if stored == safetensors.TypeF16 || stored == safetensors.TypeBF16 {
		return 2
	}
	return 4
}

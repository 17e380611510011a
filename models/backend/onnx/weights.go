package onnx

import (
	"likeness/models/op"
	"likeness/models/safetensors"
)

// Weight says where a weight's bytes are: Length bytes at Offset of the file at Path, or in Data where Path is empty.
type Weight struct {
	safetensors.Location
	Data []byte
}

// Weights finds a weight by its full name; ok is false where there is none. Files are read by the session that opens the graph.
type Weights func(name string) (w Weight, ok bool)

// FromFiles finds weights in safetensors files, by where each is.
func FromFiles(find func(name string) (safetensors.Location, bool)) Weights {
	return func(name string) (Weight, bool) {
		at, ok := find(name)
		return Weight{Location: at}, ok
	}
}

// FromFile finds weights in one open safetensors file.
func FromFile(f *safetensors.File) Weights {
	return FromFiles(func(name string) (safetensors.Location, bool) {
		info, ok := f.Info(name)
		return safetensors.Location{Info: info, Path: f.Path()}, ok
	})
}

// FromArrays keeps float weights inside the graph itself, which protobuf limits to 2 GiB.
func FromArrays(arrays map[string]op.Array) Weights {
	return func(name string) (Weight, bool) {
		a, ok := arrays[name]
		info := safetensors.Info{Name: name, DType: safetensors.TypeF32, Shape: a.Dims, Length: int64(4 * len(a.F32))}
		return Weight{Location: safetensors.Location{Info: info}, Data: floatData(a.F32)}, ok
	}
}

package onnx

import (
	"likeness/models/op"
	"likeness/models/safetensors"
)

// Weight says where a weight's bytes are: Length bytes at Offset of the file at Path, or in Data where Path is empty.
type Weight struct {
	safetensors.Info
	Path string
	Data []byte
}

// Weights finds a weight by its full name; ok is false where there is none. Files are read by the session that opens the graph.
type Weights func(name string) (w Weight, ok bool)

// FromFile finds weights in one open safetensors file.
func FromFile(f *safetensors.File) Weights {
	return func(name string) (Weight, bool) {
		info, ok := f.Info(name)
		return Weight{Info: info, Path: f.Path()}, ok
	}
}

// FromArrays keeps float weights inside the graph itself, which protobuf limits to 2 GiB.
func FromArrays(arrays map[string]op.Array) Weights {
	return func(name string) (Weight, bool) {
		a, ok := arrays[name]
		info := safetensors.Info{Name: name, DType: safetensors.TypeF32, Shape: a.Dims, Length: int64(4 * len(a.F32))}
		return Weight{Info: info, Data: floatData(a.F32)}, ok
	}
}

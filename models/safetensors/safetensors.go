// Package safetensors reads, checks and writes the safetensors file format: an 8-byte little-endian header length, a
// JSON header, then the tensors' bytes. Reading is strict: a file that any field of its header contradicts is refused.
//
// Source: https://github.com/huggingface/safetensors, "Format".
package safetensors

import (
	"fmt"
	"math"
	"math/bits"
)

// DType is an element type, spelled as in the file header.
type DType string

// The element types of the format.
const (
	TypeF64    DType = "F64"
	TypeF32    DType = "F32"
	TypeF16    DType = "F16"
	TypeBF16   DType = "BF16"
	TypeF8E4M3 DType = "F8_E4M3"
	TypeF8E5M2 DType = "F8_E5M2"
	TypeI64    DType = "I64"
	TypeI32    DType = "I32"
	TypeI16    DType = "I16"
	TypeI8     DType = "I8"
	TypeU64    DType = "U64"
	TypeU32    DType = "U32"
	TypeU16    DType = "U16"
	TypeU8     DType = "U8"
	TypeBool   DType = "BOOL"
)

// Size is the width of one element in bytes, 0 for an unknown type.
func (d DType) Size() int {
	switch d {
	case TypeF64, TypeI64, TypeU64:
		return 8
	case TypeF32, TypeI32, TypeU32:
		return 4
	case TypeF16, TypeBF16, TypeI16, TypeU16:
		return 2
	case TypeF8E4M3, TypeF8E5M2, TypeI8, TypeU8, TypeBool:
		return 1
	}
	return 0
}

// Tensor is a dense row-major array; Data is little-endian and holds exactly DType.Size() × product(Shape) bytes.
type Tensor struct {
	DType DType
	Shape []int
	Data  []byte
}

// Info describes a tensor inside a file. Offset is its absolute byte position in the file, Length its size in bytes.
type Info struct {
	Name   string
	DType  DType
	Shape  []int
	Offset int64
	Length int64
}

// Location is a tensor of the file at Path.
type Location struct {
	Info
	Path string
}

// Error says what is wrong with a file, or with one tensor of it.
type Error struct {
	Path   string // the file, or "data" for bytes in memory
	Tensor string // the tensor's name, empty when the file as a whole is wrong
	Reason string
	Err    error // the cause, when there is one
}

func (e *Error) Error() string {
	s := "safetensors: " + e.Path
	if e.Tensor != "" {
		s += fmt.Sprintf(": tensor %q", e.Tensor)
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// byteLength is DType.Size() × product(shape), or an explanation of why there is no such number.
func byteLength(d DType, shape []int) (length int64, problem string) {
	size := d.Size()
	if size == 0 {
		return 0, fmt.Sprintf("unknown dtype %q", string(d))
	}
	n := uint64(size)
	empty := false
	for _, dim := range shape {
		if dim < 0 {
			return 0, fmt.Sprintf("negative dimension in shape %v", shape)
		}
		if dim == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(dim))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, fmt.Sprintf("shape %v overflows", shape)
		}
		n = lo
	}
	if empty {
		return 0, ""
	}
	return int64(n), ""
}

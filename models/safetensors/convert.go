package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// isLittle tells whether the processor keeps numbers as the format does.
var isLittle = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// bytesOf is the memory of v.
func bytesOf(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// F32 makes a float32 tensor. Its shape is checked when it is written.
func F32(data []float32, shape ...int) Tensor {
	p := make([]byte, 4*len(data))
	if isLittle {
		copy(p, bytesOf(data))
	} else {
		for i, v := range data {
			binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(v))
		}
	}
	return Tensor{DType: TypeF32, Shape: shape, Data: p}
}

// F16 makes a half-precision tensor, rounding to nearest even; values beyond ±65504 become infinite.
func F16(data []float32, shape ...int) Tensor {
	p := make([]byte, 2*len(data))
	for i, v := range data {
		binary.LittleEndian.PutUint16(p[2*i:], ToFloat16(v))
	}
	return Tensor{DType: TypeF16, Shape: shape, Data: p}
}

// BF16 makes a bfloat16 tensor, rounding to nearest even.
func BF16(data []float32, shape ...int) Tensor {
	p := make([]byte, 2*len(data))
	for i, v := range data {
		binary.LittleEndian.PutUint16(p[2*i:], ToBFloat16(v))
	}
	return Tensor{DType: TypeBF16, Shape: shape, Data: p}
}

// Float makes a tensor of a float type: F16 and BF16 round as those functions do, any other type becomes F32.
func Float(d DType, data []float32, shape ...int) Tensor {
	switch d {
	case TypeF16:
		return F16(data, shape...)
	case TypeBF16:
		return BF16(data, shape...)
	}
	return F32(data, shape...)
}

// I64 makes an int64 tensor.
func I64(data []int64, shape ...int) Tensor {
	p := make([]byte, 8*len(data))
	for i, v := range data {
		binary.LittleEndian.PutUint64(p[8*i:], uint64(v))
	}
	return Tensor{DType: TypeI64, Shape: shape, Data: p}
}

// U8 makes a tensor of bytes; it keeps data.
func U8(data []byte, shape ...int) Tensor {
	return Tensor{DType: TypeU8, Shape: shape, Data: data}
}

// Float32 converts an F64, F32, F16 or BF16 tensor. Data that is such numbers already, and lies as the processor reads them, is not copied.
func (t Tensor) Float32() ([]float32, error) {
	if !t.DType.isFloat() {
		return nil, t.DType.noFloat()
	}
	if first := unsafe.SliceData(t.Data); t.DType == TypeF32 && isLittle && uintptr(unsafe.Pointer(first))%4 == 0 {
		return unsafe.Slice((*float32)(unsafe.Pointer(first)), cap(t.Data)/4)[:len(t.Data)/4], nil
	}
	v := make([]float32, len(t.Data)/t.DType.Size())
	t.DType.floats(v, t.Data)
	return v, nil
}

// isFloat tells whether d is a type that is read as float32.
func (d DType) isFloat() bool {
	return d == TypeF64 || d == TypeF32 || d == TypeF16 || d == TypeBF16
}

func (d DType) noFloat() error { return fmt.Errorf("cannot read dtype %s as float32", d) }

// floats fills v with the numbers at p, which are of the float type d.
func (d DType) floats(v []float32, p []byte) {
	switch d {
	case TypeF64:
		for i := range v {
			v[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:])))
		}
	case TypeF32:
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
		}
	case TypeF16:
		for i := range v {
			v[i] = FromFloat16(binary.LittleEndian.Uint16(p[2*i:]))
		}
	case TypeBF16:
		for i := range v {
			v[i] = FromBFloat16(binary.LittleEndian.Uint16(p[2*i:]))
		}
	}
}

// Int64 converts an I64, I32, I16, I8, U32, U16 or U8 tensor.
func (t Tensor) Int64() ([]int64, error) {
	size := t.DType.Size()
	var at func(p []byte) int64
	switch t.DType {
	case TypeI64:
		at = func(p []byte) int64 { return int64(binary.LittleEndian.Uint64(p)) }
	case TypeI32:
		at = func(p []byte) int64 { return int64(int32(binary.LittleEndian.Uint32(p))) }
	case TypeU32:
		at = func(p []byte) int64 { return int64(binary.LittleEndian.Uint32(p)) }
	case TypeI16:
		at = func(p []byte) int64 { return int64(int16(binary.LittleEndian.Uint16(p))) }
	case TypeU16:
		at = func(p []byte) int64 { return int64(binary.LittleEndian.Uint16(p)) }
	case TypeI8:
		at = func(p []byte) int64 { return int64(int8(p[0])) }
	case TypeU8:
		at = func(p []byte) int64 { return int64(p[0]) }
	default:
		return nil, fmt.Errorf("cannot read dtype %s as int64", t.DType)
	}
	v := make([]int64, len(t.Data)/size)
	for i := range v {
		v[i] = at(t.Data[i*size:])
	}
	return v, nil
}

// ToFloat16 converts to IEEE 754 binary16, rounding to nearest even. NaN stays NaN.
func ToFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	mag := b & 0x7fffffff
	switch {
	case mag > 0x7f800000: // NaN: keep the payload's top bits, quiet
		return sign | 0x7e00 | uint16(mag>>13&0x1ff)
	case mag >= 0x477ff000: // at or above 65520, the midpoint between 65504 and 2^16
		return sign | 0x7c00
	case mag < 0x38800000: // below 2^-14: subnormal. Adding 0.5 makes the FPU round at bit 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(mag)+0.5)-math.Float32bits(0.5))
	}
	mag += 0xfff + mag>>13&1 // round to nearest even at bit 13
	return sign | uint16((mag-0x38000000)>>13)
}

// FromFloat16 converts from IEEE 754 binary16, exactly.
func FromFloat16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, man := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0: // zero and subnormals: man × 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(man)*(1.0/(1<<24))))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

// ToBFloat16 converts to bfloat16, rounding to nearest even. NaN stays NaN.
func ToBFloat16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBFloat16 converts from bfloat16, exactly.
func FromBFloat16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

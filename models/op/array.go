package op

import "fmt"

// Array is a tensor in Go's memory, row-major: what enters and leaves a run. One of F32 and I64 holds the data.
type Array struct {
	Dims []int
	F32  []float32
	I64  []int64
}

// Floats returns a Float32 array over data.
func Floats(data []float32, dims ...int) Array { return Array{Dims: dims, F32: data} }

// Ints returns an Int64 array over data.
func Ints(data []int64, dims ...int) Array { return Array{Dims: dims, I64: data} }

// Size is the number of elements that dims make.
func Size(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// Check reports an array whose data does not fill its dims.
func (a Array) Check() error {
	if n := len(a.F32) + len(a.I64); n != Size(a.Dims) || (a.F32 != nil && a.I64 != nil) {
		return fmt.Errorf("array of dims %v holds %d elements", a.Dims, n)
	}
	return nil
}

// Finite tells whether no value is NaN or infinite: v - v is 0 of all others. Four sums do not wait for each other.
func Finite(values []float32) bool {
	var a, b, c, d float32
	for ; len(values) >= 4; values = values[4:] {
		v := (*[4]float32)(values)
		a, b, c, d = a+(v[0]-v[0]), b+(v[1]-v[1]), c+(v[2]-v[2]), d+(v[3]-v[3])
	}
	for _, v := range values {
		a += v - v
	}
	return a+b+c+d == 0
}

//go:build torch

package torch

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"likeness/models/op"
)

// The factors make the matrix again, are orthonormal, and the values fall; wide, tall and of less than full rank.
func TestSVD(t *testing.T) {
	e := start(t, Float32)
	r := rand.New(rand.NewPCG(8, 9))
	for _, dims := range [][3]int{{5, 9, 5}, {9, 5, 5}, {6, 6, 2}, {1, 4, 1}} {
		m, n, rank := dims[0], dims[1], dims[2]
		a := op.Floats(make([]float32, m*n), m, n)
		for range rank {
			left, right := make([]float32, m), make([]float32, n)
			for i := range left {
				left[i] = float32(r.NormFloat64())
			}
			for j := range right {
				right[j] = float32(r.NormFloat64())
			}
			for i := range a.F32 {
				a.F32[i] += left[i/n] * right[i%n]
			}
		}
		u, values, v, err := e.SVD(a)
		if err != nil {
			t.Fatal(err)
		}
		k := min(m, n)
		for i, want := range a.F32 {
			got := 0.0
			for j := range k {
				got += float64(u.F32[i/n*k+j]) * float64(values.F32[j]) * float64(v.F32[j*n+i%n])
			}
			if math.Abs(got-float64(want)) > 1e-5 {
				t.Fatalf("%v: value %d is %g, want %g", dims, i, got, want)
			}
		}
		for i := range k {
			for j := range k {
				got, want := 0.0, 0.0
				for c := range n {
					got += float64(v.F32[i*n+c]) * float64(v.F32[j*n+c])
				}
				if i == j {
					want = 1
				}
				if math.Abs(got-want) > 1e-5 {
					t.Errorf("%v: rows %d and %d of v have the product %g", dims, i, j, got)
				}
			}
			if i > 0 && values.F32[i] > values.F32[i-1] || i >= rank && values.F32[i] > 1e-5 {
				t.Errorf("%v: values %v", dims, values.F32)
			}
		}
	}
	if _, _, _, err := e.SVD(op.Floats(make([]float32, 8), 2, 2, 2)); err == nil || !strings.Contains(err.Error(), "matrix") {
		t.Errorf("a cube gave %v", err)
	}
}

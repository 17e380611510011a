package ort

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"likeness/models/backend/onnx"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// What the CPU lacks for bfloat16 is said, with what would change it.
func TestBFloat16ThatCannotBe(t *testing.T) {
	there, missing := func(string) bool { return true }, func(string) bool { return false }
	if err := canBFloat16(true, true, there); err != nil {
		t.Error(err)
	}
	for says, err := range map[string]error{"amx_bf16": canBFloat16(true, false, there), "Intel": canBFloat16(false, true, there),
		"scripts/setup openvino": canBFloat16(true, true, missing)} {
		var wrong *DeviceError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s in it", err, says)
		}
	}
}

// A layer in bfloat16 rounds its weights to 8 bits, and agrees with the sums of the rounded ones: rows of different numbers, by several
// goroutines at once. A processor that cannot refuses.
func TestBFloat16(t *testing.T) {
	const in, out = 64, 32
	weight := make([]float32, out*in)
	rounded := make([]float32, len(weight))
	for i, v := range optest.Normal("weight", out, in).F32 {
		weight[i] = v
		rounded[i] = bfloat16(v)
	}
	graph, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor {
		x := s.Input("x", op.Float32, -1, -1, in)
		return map[string]op.Tensor{"y": x.Linear(s.Weight("weight", out, in), op.Tensor{})}
	}, onnx.FromArrays(map[string]op.Array{"weight": op.Floats(weight, out, in)}), onnx.Options{Name: "layer"})
	if err != nil {
		t.Fatal(err)
	}
	if err := CanBFloat16(); err != nil {
		var wrong *DeviceError
		if !errors.As(err, &wrong) {
			t.Error(err)
		}
		return
	}
	s, err := Open(graph, Options{Threads: 1, BFloat16: true})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for rows := 1; rows < 5; rows++ {
		group.Go(func() {
			x := optest.Normal("x", 2, rows, in)
			for i, v := range x.F32 {
				x.F32[i] = bfloat16(v)
			}
			got, err := s.Run(context.Background(), map[string]op.Array{"x": x})
			if err != nil {
				t.Error(err)
				return
			}
			exact, rough := product(x.F32, rounded, in), product(x.F32, weight, in)
			if own, other := distance(got["y"].F32, exact), distance(got["y"].F32, rough); own > 0.02 || own >= other {
				t.Errorf("%d rows: %g from the product of rounded weights, %g from the exact one", rows, own, other)
			}
		})
	}
	group.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// bfloat16 rounds to the nearest number of 8 significant bits, ties to even.
func bfloat16(v float32) float32 {
	bits := math.Float32bits(v)
	return math.Float32frombits((bits + 0x7fff + bits>>16&1) &^ 0xffff)
}

// product multiplies rows of x with rows of w.
func product(x, w []float32, width int) []float32 {
	var y []float32
	for row := 0; row < len(x); row += width {
		for column := 0; column < len(w); column += width {
			sum := float32(0)
			for i := range width {
				sum += x[row+i] * w[column+i]
			}
			y = append(y, sum)
		}
	}
	return y
}

// distance is the root of the mean squared difference.
func distance(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += math.Pow(float64(a[i]-b[i]), 2)
	}
	return math.Sqrt(sum / float64(len(a)))
}

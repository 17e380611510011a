package trace_test

import (
	"strings"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/op"
)

// TestPeak counts by hand. x is [2, 3, 5], 120 bytes.
func TestPeak(t *testing.T) {
	x := func(s op.Scope) op.Tensor { return s.Input("x", op.Float32, -1, -1, 5) }
	for name, c := range map[string]struct {
		model func(op.Scope) op.Tensor
		want  int64
	}{
		"input alone":                  {x, 120},
		"in place":                     {func(s op.Scope) op.Tensor { return x(s).Exp().Tanh().Neg() }, 120},
		"an operand that is needed on": {func(s op.Scope) op.Tensor { return x(s).Exp().Add(x(s)) }, 240},
		"a view is no copy":            {func(s op.Scope) op.Tensor { return x(s).Reshape(0, -1).Exp() }, 120},
		"a transposed copy":            {func(s op.Scope) op.Tensor { return x(s).Transpose(0, 2, 1).Exp() }, 240},
		"weights are not counted": {func(s op.Scope) op.Tensor {
			return x(s).Linear(s.Weight("w", 10, 5), op.Tensor{}) // 240 made
		}, 360},
		"wide, then narrow": {func(s op.Scope) op.Tensor {
			h := x(s).Linear(s.Weight("w", 50, 5), op.Tensor{}).Exp() // 1200
			return h.Linear(s.Weight("v", 5, 50), op.Tensor{})
		}, 1320},
		"attention": {func(s op.Scope) op.Tensor { return x(s).Attention(x(s), x(s), op.Tensor{}, 1, 5) }, 120 + 120 + 3*120},
		"masked": {func(s op.Scope) op.Tensor {
			return x(s).Attention(x(s), x(s), s.Const(make([]float32, 9), 1, 1, 3, 3), 5, 1)
		}, 120 + 120 + 3*120 + 4*2*5*3*3},
		"another input of the batch": {func(s op.Scope) op.Tensor {
			return x(s).Add(s.Input("offsets", op.Float32, -1, -1, 5)) // [2, 1, 5]
		}, 160},
	} {
		model := func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": c.model(s)} }
		got, err := trace.Peak(model, map[string][]int{"x": {2, 3, 5}})
		if err != nil || got != c.want {
			t.Errorf("%s: %d bytes (%v), want %d", name, got, err, c.want)
		}
	}
	model := func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": x(s)} }
	for _, dims := range [][]int{{2, 3}, {2, 3, 4}, {2, 0, 5}} {
		if _, err := trace.Peak(model, map[string][]int{"x": dims}); err == nil || !strings.Contains(err.Error(), "input x") {
			t.Errorf("dims %v: error is %v", dims, err)
		}
	}
}

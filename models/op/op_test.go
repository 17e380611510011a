package op_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// run computes a model's output y.
func run(t *testing.T, f func(op.Scope) op.Tensor, weights, inputs map[string]op.Array) op.Array {
	t.Helper()
	out, err := ref.Run(output(f), weights, inputs)
	if err != nil {
		t.Fatal(err)
	}
	return out["y"]
}

func output(f func(op.Scope) op.Tensor) op.Model {
	return func(s op.Scope) map[string]op.Tensor { return map[string]op.Tensor{"y": f(s)} }
}

func TestErrorNamesPath(t *testing.T) {
	short := map[string]op.Array{"down_blocks.0.attn1.to_k.weight": optest.Normal("w", 3, 4)}
	for want, f := range map[string]func(op.Scope) op.Tensor{
		"down_blocks.0.attn1.to_k: Weight weight: ": func(s op.Scope) op.Tensor {
			return s.Index("down_blocks", 0).At("attn1", "to_k").Weight("weight", 4, 4)
		},
		"down_blocks.0.attn1.to_k: Weight bias: ": func(s op.Scope) op.Tensor {
			return nn.Linear(s.At("down_blocks.0.attn1.to_k"), s.Const(make([]float32, 8), 2, 4), 4, 3, true)
		},
		"Input x: ": func(s op.Scope) op.Tensor { return s.Input("x", op.Float32, 3) },
		"a.b: Add: ": func(s op.Scope) op.Tensor {
			return s.At("a").At("b").Const(make([]float32, 2), 2).Add(s.Const(make([]float32, 3), 3))
		},
		"down_blocks.0.attn1.to_k: MatMul: ": func(s op.Scope) op.Tensor { // the weight's place, not that of what is multiplied
			return s.At("down_blocks.0.attn1.to_k").Weight("weight", 3, 4).MatMul(s.Const([]float32{1}, 1, 1))
		},
		"a: config: width 5 of 2 heads": func(s op.Scope) op.Tensor {
			s.At("a").Fail("width %d of %d heads", 5, 2)
			return op.Tensor{}
		},
	} {
		_, err := ref.Run(output(f), short, nil)
		var wrong *op.Error
		if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the error is %v, want one that begins with %q", err, want)
		}
	}
}

// TestBuildLetsOtherPanicsThrough: a bug in a model must not look like a model that does not fit.
func TestBuildLetsOtherPanicsThrough(t *testing.T) {
	defer func() {
		if r := recover(); r != "bug" {
			t.Errorf("recovered %v, want the panic", r)
		}
	}()
	ref.Run(func(op.Scope) map[string]op.Tensor { panic("bug") }, nil, nil)
}

func TestComponentPrefixesWeightsOnly(t *testing.T) {
	weights := map[string]op.Array{"unet/conv.weight": optest.Normal("w", 3)}
	var path string
	got := run(t, func(s op.Scope) op.Tensor {
		s = s.At("elsewhere").Component("unet").At("conv")
		path = s.Path()
		return s.Weight("weight", 3)
	}, weights, nil)
	optest.Near(t, "y", got, weights["unet/conv.weight"], 0)
	if path != "conv" {
		t.Errorf("the path is %q, want conv", path)
	}
}

func TestLayout(t *testing.T) {
	targets := []op.Target{{Path: "b.to_q", In: 3, Out: 5}, {Path: "b", In: 2, Out: 2}, {Path: "a.10", In: 1, Out: 4}, {Path: "a.2", In: 7, Out: 1}}
	l, err := op.NewLayout(2, targets)
	if err != nil {
		t.Fatal(err)
	}
	want := "[{a.10 1 4} {a.2 7 1} {b 2 2} {b.to_q 3 5}]" // by path, as strings compare
	if got := fmt.Sprint(l.Targets()); got != want {
		t.Errorf("targets are %s, want %s", got, want)
	}
	start := 0
	for _, target := range l.Targets() {
		down, up, ok := l.Span(target.Path)
		if !ok || down != start || up != start+2*target.In {
			t.Errorf("%s: span %d, %d, %v, want %d, %d", target.Path, down, up, ok, start, start+2*target.In)
		}
		start += 2 * (target.In + target.Out)
	}
	if l.Size() != start {
		t.Errorf("the size is %d, want %d", l.Size(), start)
	}
	if _, _, ok := l.Span("a"); ok {
		t.Error("a prefix of a path is taken for a target")
	}
	slices.Reverse(targets)
	again, _ := op.NewLayout(2, targets)
	if l.Digest() != again.Digest() {
		t.Error("the digest depends on the order in which targets are named")
	}
}

func TestDigestTellsLayoutsApart(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct {
		rank    int
		targets []op.Target
	}{
		{1, nil},
		{1, []op.Target{{Path: "a", In: 2, Out: 3}}},
		{2, []op.Target{{Path: "a", In: 2, Out: 3}}},
		{1, []op.Target{{Path: "a", In: 3, Out: 2}}},
		{1, []op.Target{{Path: "b", In: 2, Out: 3}}},
		{1, []op.Target{{Path: "a", In: 2, Out: 3}, {Path: "b", In: 2, Out: 3}}},
	} {
		l, err := op.NewLayout(c.rank, c.targets)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[l.Digest()]; ok {
			t.Errorf("%v and %s have one digest", c, other)
		}
		seen[l.Digest()] = fmt.Sprint(c)
	}
}

func TestLayoutRefuses(t *testing.T) {
	if _, err := op.NewLayout(0, nil); err == nil || !strings.Contains(err.Error(), "rank 0") {
		t.Errorf("rank 0: the error is %v", err)
	}
	twice := []op.Target{{Path: "a", In: 1, Out: 1}, {Path: "a", In: 1, Out: 1}}
	if _, err := op.NewLayout(1, twice); err == nil || !strings.Contains(err.Error(), "a: named twice") {
		t.Errorf("one path twice: the error is %v", err)
	}
	wrong, _ := op.NewLayout(1, []op.Target{{Path: "a", In: 3, Out: 2}})
	_, err := ref.Run(output(func(s op.Scope) op.Tensor {
		s = s.WithOffsets(wrong, s.Const(make([]float32, 5), 1, 1, 5))
		return nn.Linear(s.At("a"), s.Const(make([]float32, 4), 1, 1, 4), 4, 2, false)
	}), map[string]op.Array{"a.weight": optest.Normal("w", 2, 4)}, nil)
	if want := "a: config: offsets: the layout has 3 inputs, the module 4"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

// layers is two targets "a.first" and "a.second" and a linear layer that is none, over x [B, N, 4].
func layers(layout *op.Layout) func(op.Scope) op.Tensor {
	return func(s op.Scope) op.Tensor {
		if layout != nil {
			s = s.WithOffsets(layout, s.Input("offsets", op.Float32, -1, -1, layout.Size()))
		}
		a := s.At("a")
		x := nn.Linear(a.At("first"), s.Input("x", op.Float32, -1, -1, 4), 4, 6, true)
		x = nn.Linear(a.At("none"), x, 6, 6, false)
		return nn.Linear(a.At("second"), x, 6, 3, false)
	}
}

var layerWeights = map[string]op.Array{
	"a.first.weight": optest.Normal("first", 6, 4), "a.first.bias": optest.Normal("bias", 6),
	"a.none.weight": optest.Normal("none", 6, 6), "a.second.weight": optest.Normal("second", 3, 6),
}

func layerLayout(t *testing.T) *op.Layout {
	l, err := op.NewLayout(2, []op.Target{{Path: "a.first", In: 4, Out: 6}, {Path: "a.second", In: 6, Out: 3}})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestZeroOffsetsChangeNothing(t *testing.T) {
	l, x := layerLayout(t), optest.Normal("x", 3, 5, 4)
	base := run(t, layers(nil), layerWeights, map[string]op.Array{"x": x})
	for _, concepts := range []int{1, 3} {
		zeros := op.Floats(make([]float32, 3*concepts*l.Size()), 3, concepts, l.Size())
		got := run(t, layers(l), layerWeights, map[string]op.Array{"x": x, "offsets": zeros})
		optest.Near(t, "y", got, base, 0)
	}
}

// TestOffsetsSumConcepts holds each sample's output against weights that the deltas of its own concepts were added to, one by one.
func TestOffsetsSumConcepts(t *testing.T) {
	l, x := layerLayout(t), optest.Normal("x", 2, 5, 4)
	const concepts = 3
	packed := optest.Normal("packed", 2, concepts, l.Size())
	got := run(t, layers(l), layerWeights, map[string]op.Array{"x": x, "offsets": packed})
	for sample := range 2 {
		merged := optest.Merge(layerWeights, l, packed.F32[sample*concepts*l.Size():][:concepts*l.Size()])
		own := op.Floats(x.F32[sample*20:(sample+1)*20], 1, 5, 4)
		want := run(t, layers(nil), merged, map[string]op.Array{"x": own})
		optest.Near(t, fmt.Sprint("sample ", sample), op.Floats(got.F32[sample*15:(sample+1)*15], 1, 5, 3), want, 1e-3)
	}
}

func TestOffsetsAreTakenAway(t *testing.T) {
	l, x := layerLayout(t), optest.Normal("x", 1, 2, 4)
	inputs := map[string]op.Array{"x": x, "offsets": optest.Normal("packed", 1, 1, l.Size())}
	got := run(t, func(s op.Scope) op.Tensor {
		s = s.WithOffsets(l, s.Input("offsets", op.Float32, -1, -1, l.Size()))
		return layers(nil)(s.WithOffsets(nil, op.Tensor{}))
	}, layerWeights, inputs)
	optest.Near(t, "y", got, run(t, layers(nil), layerWeights, inputs), 0)
}

// A weight that the scope gives is read in the place of the checkpoint's; all others are the checkpoint's.
func TestWeightsInTheirPlace(t *testing.T) {
	weights := map[string]op.Array{"unet/a.weight": op.Floats([]float32{2}, 1, 1), "unet/a.bias": op.Floats([]float32{1}, 1)}
	y := run(t, func(s op.Scope) op.Tensor {
		twice := func(name string, dims ...int) (op.Tensor, bool) {
			if name != "a.weight" {
				return op.Tensor{}, false
			}
			return s.Component("unet").Weight(name, dims...).Scale(2), true
		}
		u, x := s.Component("unet").WithWeights(twice).At("a"), s.Const([]float32{3}, 1, 1)
		changed := nn.Linear(u, x, 1, 1, true)
		return changed.Concat(1, nn.Linear(u.WithWeights(nil), x, 1, 1, true))
	}, weights, nil)
	if want := []float32{13, 7}; !slices.Equal(y.F32, want) {
		t.Errorf("%v, want %v", y.F32, want)
	}
}

func TestArrayCheck(t *testing.T) {
	for _, a := range []op.Array{
		op.Floats([]float32{1, 2}, 3), op.Floats(nil, 1), op.Ints([]int64{1}, 2, 1), op.Floats([]float32{1, 2}),
		{Dims: []int{2}, F32: []float32{1}, I64: []int64{1}},
	} {
		if a.Check() == nil {
			t.Errorf("%+v passes", a)
		}
	}
	for _, a := range []op.Array{op.Floats([]float32{1}), op.Floats(make([]float32, 6), 1, 2, 3), op.Ints(nil, 0, 4)} {
		if err := a.Check(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

func TestLayoutWith(t *testing.T) {
	a, b := op.Target{Path: "a", In: 2, Out: 3}, op.Target{Path: "b", In: 4, Out: 5}
	l, err := op.NewLayout(2, []op.Target{b})
	if err != nil {
		t.Fatal(err)
	}
	wide, err := l.With(b, a, a)
	if err != nil || wide.Rank != 2 || wide.Size() != 2*(5+9) || !slices.Equal(wide.Targets(), []op.Target{a, b}) {
		t.Fatal(wide, err)
	}
	if _, err := l.With(op.Target{Path: "b", In: 5, Out: 4}); err == nil || !strings.Contains(err.Error(), "b") {
		t.Errorf("a target of other sizes: %v", err)
	}
}

// An input is the rows' own memory where they share it, and a copy with zeros behind it otherwise.
func TestLayoutInput(t *testing.T) {
	l, err := op.NewLayout(1, []op.Target{{Path: "a", In: 1, Out: 1}})
	if err != nil {
		t.Fatal(err)
	}
	a, b := []float32{1, 2, 3, 4}, []float32{5, 6}
	memory := []float32{9, 9, 9, 9, 9, 9}
	for _, c := range []struct {
		rows [][]float32
		want op.Array
		own  bool // the rows' memory
	}{
		{[][]float32{a}, op.Floats(a, 1, 2, 2), true},
		{[][]float32{a, a, a}, op.Floats(a, 1, 2, 2), true},
		{[][]float32{a[:2], a}, op.Floats([]float32{1, 2, 0, 0, 1, 2, 3, 4}, 2, 2, 2), false},
		{[][]float32{b, slices.Clone(b)}, op.Floats([]float32{5, 6, 5, 6}, 2, 1, 2), false},
		{[][]float32{nil, b}, op.Floats([]float32{0, 0, 5, 6}, 2, 1, 2), false},
		{[][]float32{nil, nil}, op.Floats([]float32{0, 0}, 1, 1, 2), false},
		{[][]float32{a[:0], b, a}, op.Floats([]float32{0, 0, 0, 0, 5, 6, 0, 0, 1, 2, 3, 4}, 3, 2, 2), false},
	} {
		got := l.Input(c.rows, &memory)
		if !slices.Equal(got.Dims, c.want.Dims) || !slices.Equal(got.F32, c.want.F32) {
			t.Errorf("%v: %v, want %v", c.rows, got, c.want)
		}
		if own := &got.F32[0] == &memory[0]; own == c.own {
			t.Errorf("%v: in the memory given: %v", c.rows, own)
		}
	}
	if !slices.Equal(a, []float32{1, 2, 3, 4}) || !slices.Equal(b, []float32{5, 6}) {
		t.Errorf("the rows are %v and %v now", a, b)
	}
}

func TestFinite(t *testing.T) {
	values := []float32{0, -1, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32, 3, 4}
	for n := range values {
		if !op.Finite(values[:n]) {
			t.Errorf("%v is finite", values[:n])
		}
	}
	for i := range values {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			wrong := slices.Clone(values)
			if wrong[i] = float32(bad); op.Finite(wrong) {
				t.Errorf("%v is not finite", wrong)
			}
		}
	}
}

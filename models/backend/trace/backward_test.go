package trace

import (
	"testing"

	"likeness/models/op"
)

// chain is n products with square weights, each of whose results the next one's gradient reads.
func chain(n int, recompute bool) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		if recompute {
			s = s.WithRecompute()
		}
		h := s.Input("x", op.Float32, -1, 16)
		for i := range n {
			at := s.Index("layers", i)
			h = at.Block(func(xs []op.Tensor) op.Tensor {
				inner := xs[0].Linear(at.Weight("in", 64, 16), op.Tensor{}).SiLU()
				return inner.Linear(at.Weight("out", 16, 64), op.Tensor{})
			}, h)
		}
		return map[string]op.Tensor{"loss": h.Mul(h).Mean(0, 1)}
	}
}

// Bytes by hand: of a block of 10 rows there are the input and the result, 640 bytes each, and between them two of 2560.
func TestBackward(t *testing.T) {
	all := func(string) bool { return true }
	last := func(name string) bool { return name == "layers.3.out" }
	const edge, inner = 4 * 10 * 16, 4 * 10 * 64
	for _, c := range []struct {
		name string
		at   Training
		low  bool
		want int64
	}{
		// The input, the blocks' results and, in the last block, both inner ones.
		{"run", Training{}, false, 5*edge + 2*inner},
		// Every block's input and inner results, and on the way back the gradients of the last block's result and of what it is made of.
		{"all", Training{Trained: all}, false, 4*(edge+2*inner) + edge + inner},
		// As much: nothing before the last layer is kept for its gradient.
		{"last", Training{Trained: last}, false, 5*edge + 2*inner},
		// Inputs of blocks, and at the end one block with its gradients.
		{"again", Training{Trained: all}, true, 4*edge + 2*inner + edge + inner + edge},
	} {
		got, err := Backward(chain(4, c.low), map[string][]int{"x": {10, 16}}, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if float64(got) < 0.98*float64(c.want) || float64(got) > 1.02*float64(c.want) {
			t.Errorf("%s: %d bytes, want about %d", c.name, got, c.want)
		}
	}
	half, err := Backward(chain(4, false), map[string][]int{"x": {1000, 16}}, Training{Trained: all, Half: true})
	if err != nil {
		t.Fatal(err)
	}
	if full, _ := Backward(chain(4, false), map[string][]int{"x": {1000, 16}}, Training{Trained: all}); float64(half) > 0.6*float64(full) {
		t.Errorf("%d bytes in halves, %d in full", half, full)
	}
}

// Of a chain of 3×3 convolutions gradients read the images only where they are of the weights.
func TestBackwardOfFrozenConvolutions(t *testing.T) {
	const image, layers = 4 * 64 * 64 * 64, 6
	model := func(s op.Scope) map[string]op.Tensor {
		h := s.Input("x", op.Float32, -1, 64, 64, 64).Mul(s.Weight("scale", 1, 64, 1, 1))
		for i := range layers {
			h = h.Conv2D(s.Index("layers", i).Weight("weight", 64, 64, 3, 3), op.Tensor{}, 1, 1)
		}
		return map[string]op.Tensor{"loss": h.Mean(0, 1, 2, 3)}
	}
	bytes := func(trained func(string) bool) int64 {
		n, err := Backward(model, map[string][]int{"x": {8, 64, 64, 64}}, Training{Trained: trained})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	frozen, trained := bytes(func(name string) bool { return name == "scale" }), bytes(func(string) bool { return true })
	// The builder holds all images until the way back begins; then gradients take their place, unless these read them.
	if more := trained - frozen; more < 8*image {
		t.Errorf("%d bytes with frozen weights, %d with trained ones", frozen, trained)
	}
}

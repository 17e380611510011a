package evaluate

import (
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/training/portraits"
)

const (
	embeddingSize = 128
	hiddenSize    = 192
	groups        = 8
	eps           = 1e-5
)

// labels is the number of values of all facets of a context.
func labels() int {
	n := 0
	for _, facet := range portraits.LabelNames {
		n += len(facet.Values)
	}
	return n
}

// judgeNetwork is the judge: pictures [B, 3, 128, 128] in -1..1 → embedding [B, 128] of unit length, of who is in the picture, and logits
// [B, labels()], facet after facet, of the context. Training reads known [B, hiddenSize] as well, what the embedding is made from. The two
// share the first layers, which find edges and colours.
func judgeNetwork(s op.Scope) map[string]op.Tensor {
	x := s.Input("pictures", op.Float32, -1, 3, portraits.Size, portraits.Size)
	shared := s.At("shared")
	x = nn.Conv2D(shared.At("stem"), x, 3, 64, 4, 4, 0)                               // [B, 64, 32, 32]
	x = nn.Conv2D(shared.At("down"), norm(shared.At("norm"), x, 64), 64, 96, 3, 2, 1) // [B, 96, 16, 16]
	x = norm(shared.At("norm_out"), resnet(shared.At("resnet"), x, 96), 96)

	person := summary(s.At("recogniser"), x)
	return map[string]op.Tensor{
		"known":     person,
		"embedding": unit(nn.Linear(s.At("recogniser", "out"), person, hiddenSize, embeddingSize, true), embeddingSize),
		"logits":    nn.Linear(s.At("classifier", "out"), summary(s.At("classifier"), x), hiddenSize, labels(), true),
	}
}

// summary flattens places, so that it can see where things are: [B, 96, 16, 16] → [B, hiddenSize].
func summary(s op.Scope, x op.Tensor) op.Tensor {
	x = nn.Conv2D(s.At("down"), x, 96, 128, 3, 2, 1)                      // [B, 128, 8, 8]
	x = norm(s.At("norm"), resnet(s.At("resnet"), x, 128), 128)           // [B, 128, 8, 8]
	x = nn.Conv2D(s.At("narrow"), x, 128, 24, 1, 1, 0).Reshape(0, 24*8*8) // [B, 1536]
	return nn.Linear(s.At("hidden"), x, 24*8*8, hiddenSize, true).SiLU()
}

func resnet(s op.Scope, x op.Tensor, channels int) op.Tensor {
	return nn.Resnet{In: channels, Out: channels, Groups: groups, Eps: eps}.Forward(s, x, op.Tensor{})
}

func norm(s op.Scope, x op.Tensor, channels int) op.Tensor {
	return nn.GroupNorm(s, x, groups, channels, eps).SiLU()
}

// unit scales rows of x [B, size] to length one.
func unit(x op.Tensor, size int) op.Tensor {
	return x.Div(x.Mul(x).Mean(1).Scale(float64(size)).Offset(1e-12).Sqrt())
}

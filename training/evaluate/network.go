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
// [B, labels()], facet after facet, of the context. The two have no weight in common.
func judgeNetwork(s op.Scope) map[string]op.Tensor {
	pictures := s.Input("pictures", op.Float32, -1, 3, portraits.Size, portraits.Size)
	return map[string]op.Tensor{
		"embedding": unit(judgement(s.Component("recogniser"), pictures, embeddingSize), embeddingSize),
		"logits":    judgement(s.Component("classifier"), pictures, labels()),
	}
}

// judgement is a small ResNet with flattened places, so that it can see where things are: [B, 3, 128, 128] → [B, out].
func judgement(s op.Scope, x op.Tensor, out int) op.Tensor {
	resnet := func(name string, x op.Tensor, channels int) op.Tensor {
		return nn.Resnet{In: channels, Out: channels, Groups: groups, Eps: eps}.Forward(s.At(name), x, op.Tensor{})
	}
	norm := func(name string, x op.Tensor, channels int) op.Tensor {
		return nn.GroupNorm(s.At(name), x, groups, channels, eps).SiLU()
	}
	x = nn.Conv2D(s.At("stem"), x, 3, 24, 3, 2, 1)                        // [B, 24, 64, 64]
	x = nn.Conv2D(s.At("down1"), norm("norm1", x, 24), 24, 64, 3, 2, 1)   // [B, 64, 32, 32]
	x = nn.Conv2D(s.At("down2"), norm("norm2", x, 64), 64, 96, 3, 2, 1)   // [B, 96, 16, 16]
	x = resnet("resnet2", resnet("resnet1", x, 96), 96)                   // [B, 96, 16, 16]
	x = nn.Conv2D(s.At("down3"), norm("norm3", x, 96), 96, 128, 3, 2, 1)  // [B, 128, 8, 8]
	x = norm("norm4", resnet("resnet3", x, 128), 128)                     // [B, 128, 8, 8]
	x = nn.Conv2D(s.At("narrow"), x, 128, 16, 1, 1, 0).Reshape(0, 16*8*8) // [B, 1024]
	x = nn.Linear(s.At("hidden"), x, 16*8*8, hiddenSize, true).SiLU()
	return nn.Linear(s.At("out"), x, hiddenSize, out, true)
}

// unit scales rows of x [B, size] to length one.
func unit(x op.Tensor, size int) op.Tensor {
	return x.Div(x.Mul(x).Mean(1).Scale(float64(size)).Offset(1e-12).Sqrt())
}

package unet

import (
	"likeness/models/nn"
	"likeness/models/op"
)

// Whole is New with one output more, deep: what the last layer reads of all that lies beneath it, [B, block_out_channels[0], H, W]. From one
// step to the next it changes little.
func Whole(cfg Config, layout *op.Layout) op.Model {
	return model(cfg, layout, func(s op.Scope, in Inputs) map[string]op.Tensor {
		noise, deep := forward(s, cfg, in)
		return map[string]op.Tensor{"noise_pred": noise, "deep": deep}
	})
}

// Shallow is New of the outermost layers alone, with the input deep, as Whole gave it at an earlier step: DeepCache (Ma et al. 2024,
// section 3.3) with the first skip branch. It reads all inputs of New and a hundredth of its weights.
func Shallow(cfg Config, layout *op.Layout) op.Model {
	return model(cfg, layout, func(s op.Scope, in Inputs) map[string]op.Tensor {
		ch := cfg.BlockOutChannels[0]
		deep := s.Input("deep", op.Float32, -1, ch, -1, -1)
		net := newNetwork(s, cfg, in)
		return map[string]op.Tensor{"noise_pred": net.outermost(s, deep, net.first(s, in.Sample))}
	})
}

// first is the feature map that the outermost skip connection carries.
func (n network) first(s op.Scope, sample op.Tensor) op.Tensor {
	return nn.Conv2D(s.At("conv_in"), sample, n.InChannels, n.BlockOutChannels[0], 3, 1, 1)
}

// outermost is the last layer of the last up block, and the prediction.
func (n network) outermost(s op.Scope, deep, first op.Tensor) op.Tensor {
	ch, last := n.BlockOutChannels[0], len(n.BlockOutChannels)-1
	b := s.Index("up_blocks", last)
	h := n.layer(b, n.LayersPerBlock.at(0), 0, n.UpBlockTypes[last], deep.Concat(1, first), 2*ch, ch)
	h = nn.GroupNorm(s.At("conv_norm_out"), h, n.NormNumGroups, ch, n.NormEps).SiLU()
	return nn.Conv2D(s.At("conv_out"), h, ch, n.OutChannels, 3, 1, 1)
}

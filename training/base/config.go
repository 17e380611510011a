// Package base trains a small base model of Stable Diffusion's architecture from nothing on drawn portraits: first the VAE, then the text
// encoder and the UNet together on its latents.
package base

import (
	"likeness/models/clip"
	"likeness/models/scheduler"
	"likeness/models/unet"
	"likeness/models/vae"
)

// Architecture is the configuration of every network of a base model.
type Architecture struct {
	VAE       vae.Config
	UNet      unet.Config
	Text      clip.Config
	Scheduler scheduler.Config
}

// Portraits is the architecture of the bundled pack: 128×128 pictures, latents of 12×16×16, a UNet of 16 M parameters with attention on its
// inner two levels, a text encoder over the given vocabulary.
func Portraits(vocabulary, endOfText, length int) Architecture {
	a := Architecture{VAE: vae.Default(), UNet: unet.Default(), Text: clip.TextDefault(), Scheduler: scheduler.Default()}
	v := &a.VAE
	v.BlockOutChannels = []int{32, 64, 96, 128}
	v.DownBlockTypes = []string{"DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"}
	v.UpBlockTypes = []string{"UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"}
	v.LatentChannels, v.SampleSize, v.NormNumGroups, v.ForceUpcast, v.MidBlockAddAttn = 12, 128, 8, false, false

	u := &a.UNet
	side := v.SampleSize / v.Factor()
	u.SampleSize, u.InChannels, u.OutChannels = unet.Size{side, side}, v.LatentChannels, v.LatentChannels
	u.BlockOutChannels, u.LayersPerBlock, u.CrossAttentionDim = []int{96, 160, 224}, unet.PerLevel{1}, unet.PerLevel{128}
	u.DownBlockTypes = []string{"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}
	u.UpBlockTypes = []string{"CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
	u.Heads, u.NormNumGroups = unet.PerLevel{3, 5, 7}, 16

	t := &a.Text
	t.HiddenSize, t.IntermediateSize, t.NumHiddenLayers, t.NumHeads, t.ProjectionDim = 128, 512, 3, 4, 128
	t.VocabSize, t.EOSTokenID, t.MaxPositionEmbeddings = vocabulary, endOfText, length

	s := &a.Scheduler
	s.BetaSchedule, s.BetaStart, s.BetaEnd = "scaled_linear", 0.00085, 0.012
	s.PredictionType, s.TimestepSpacing, s.RescaleBetasZeroSNR = scheduler.VPrediction, "trailing", true
	return a
}

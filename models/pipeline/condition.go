package pipeline

import (
	"math"

	"likeness/models/op"
	"likeness/models/unet"
)

// guides tells whether a sample takes up a second row, for the negative prompt. A network that reads the guidance scale as an input has
// learned what guidance does.
func (m *Model) guides(scale float64) bool { return scale > 1 && m.UNet.TimeCondProjDim == 0 }

// condition adds to an input of the UNet what it reads beside latents, timestep and offsets: the text states of every row, and by its
// configuration the pooled text, the sizes and the guidance scale.
func (m *Model) condition(run map[string]op.Array, batch []*sample) {
	pooled, dims := m.UNet.PooledWidth(), m.UNet.TextDims(1, batch[0].length)
	rows := 0
	var states, embeds, sizes, guidance []float32
	for _, s := range batch {
		h, w := float32(s.h*m.VAE.Factor()), float32(s.w*m.VAE.Factor())
		for _, row := range s.conditions() {
			rows++
			text := row[:len(row)-pooled]
			for range op.Size(dims) / len(text) { // one text of all layers is each layer's
				states = append(states, text...)
			}
			embeds = append(embeds, row[len(text):]...)
			sizes = append(sizes, h, w, 0, 0, h, w) // the picture was this large, is not cropped, and shall be this large
			guidance = append(guidance, embedGuidance(s.guidance, m.UNet.TimeCondProjDim)...)
		}
	}
	run["encoder_hidden_states"] = op.Floats(states, m.UNet.TextDims(rows, batch[0].length)...)
	m.look(run, batch)
	m.edit(run, batch, rows)
	if pooled > 0 {
		run["text_embeds"] = op.Floats(embeds, rows, pooled)
		run["time_ids"] = op.Floats(sizes, rows, unet.TimeIDs)
	}
	if dim := m.UNet.TimeCondProjDim; dim > 0 {
		run["timestep_cond"] = op.Floats(guidance, rows, dim)
	}
}

// embedGuidance is the guidance scale as latent consistency models read it (Luo et al. 2023): sines and cosines of w = scale - 1, in
// thousandths, at dim/2 frequencies from 1 to 1/10000.
func embedGuidance(scale float64, dim int) []float32 {
	embedding := make([]float32, dim)
	half := dim / 2
	for i := range half {
		angle := 1000 * (scale - 1) * math.Exp(-float64(i)*math.Log(10000)/float64(half-1))
		embedding[i], embedding[half+i] = float32(math.Sin(angle)), float32(math.Cos(angle))
	}
	return embedding
}

// rescale takes back what guidance adds to the deviation of a prediction: factor of the way to the conditional one's, target (Lin et al.
// 2024, Common Diffusion Noise Schedules and Sample Steps are Flawed, section 3.4).
func rescale(guided []float32, target, factor float64) {
	by := float32(factor*target/deviation(guided) + 1 - factor)
	for i := range guided {
		guided[i] *= by
	}
}

// deviation is the standard deviation of values.
func deviation(values []float32) float64 {
	sum, squares := 0.0, 0.0
	for _, v := range values {
		sum += float64(v)
	}
	mean := sum / float64(len(values))
	for _, v := range values {
		squares += (float64(v) - mean) * (float64(v) - mean)
	}
	return math.Sqrt(squares / float64(len(values)-1))
}

// statistics are mean and deviation of a channel of the VAE's latents, which the UNet's do not have. Those of single channels belong to
// the models whose UNet reads pooled text; the others were trained without, whatever their VAE's configuration carries.
func (m *Model) statistics(channel int) (mean, std float64) {
	if m.VAE.LatentsMean != nil && m.UNet.PooledWidth() > 0 {
		return m.VAE.LatentsMean[channel], m.VAE.LatentsStd[channel]
	}
	return m.VAE.Shift(), 1
}

// unscale returns what the VAE's decoder reads for latents [C, h, w] of the UNet.
func (m *Model) unscale(latents []float32) []float32 {
	plane := len(latents) / m.VAE.LatentChannels
	unscaled := make([]float32, len(latents))
	for i, v := range latents {
		mean, std := m.statistics(i / plane)
		unscaled[i] = float32(float64(v)*std/m.VAE.ScalingFactor + mean)
	}
	return unscaled
}

// scale is unscale's inverse, in place.
func (m *Model) scale(latents []float32) []float32 {
	plane := len(latents) / m.VAE.LatentChannels
	for i, v := range latents {
		mean, std := m.statistics(i / plane)
		latents[i] = float32((float64(v) - mean) * m.VAE.ScalingFactor / std)
	}
	return latents
}

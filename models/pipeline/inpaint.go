package pipeline

import (
	"slices"

	"likeness/models/op"
)

// start gives a sample its first latents: noise, or an original with the noise of its strength. The order in which numbers are drawn is
// that of diffusers' pipelines for text to image, image to image and inpainting.
func (m *Model) start(s *sample, r Request, o *original, normal func([]float32)) error {
	noise := make([]float32, m.VAE.LatentChannels*s.h*s.w)
	var image []float32
	fromNoise := o == nil || o.image == nil
	if !fromNoise {
		if s.begin = s.scheduler.Begin(r.Strength); s.begin >= len(s.timesteps) {
			return invalid("strength", "%g of %d steps leaves none to take: raise one of them", r.Strength, r.Steps)
		}
		s.step = s.begin
		fromNoise = o.mask != nil && r.Strength == 1
		if !fromNoise || !m.inpaints() {
			image = m.scale(o.image.draw(normal))
		}
	}
	normal(noise)
	if fromNoise {
		s.latents = slices.Clone(noise)
		for i := range s.latents {
			s.latents[i] *= float32(s.scheduler.InitNoiseSigma())
		}
	} else {
		s.latents = slices.Clone(image)
		if err := s.scheduler.AddNoise(s.latents, noise, s.begin); err != nil {
			return err
		}
	}
	if o == nil || o.mask == nil {
		return nil
	}
	s.mask = o.latentMask(s.h, s.w, m.VAE.Factor())
	if o.masked != nil {
		s.beside = append(slices.Clone(s.mask), m.scale(o.masked.draw(normal))...)
		return nil
	}
	normal(make([]float32, len(noise))) // diffusers draws the masked picture's latents here and does not use them
	s.known, s.noise = image, noise
	return nil
}

// latentMask is [h, w]: 1 where the upper left of a latent's factor × factor pixels is repainted, as PyTorch's nearest interpolation reads it.
func (o *original) latentMask(h, w, factor int) []float32 {
	mask := make([]float32, h*w)
	for i := range mask {
		if o.mask[i/w*factor*w*factor+i%w*factor] {
			mask[i] = 1
		}
	}
	return mask
}

// keep replaces the latents that are not repainted by the original's, with the noise of the step to come: inpainting with a network that
// knows no masks (Lugmayr et al. 2022, RePaint, eq. 8, without its resampling).
func (s *sample) keep() error {
	if s.known == nil {
		return nil
	}
	known := s.known
	if next := s.step + 1; next < len(s.timesteps) {
		known = slices.Clone(known)
		if err := s.scheduler.AddNoise(known, s.noise, next); err != nil {
			return err
		}
	}
	for i, v := range known {
		if s.mask[i%len(s.mask)] == 0 {
			s.latents[i] = v
		}
	}
	return nil
}

// besideMask is what the UNet reads for latents [rows, C, h, w] of a batch: an inpainting UNet has mask and masked picture behind them.
func (m *Model) besideMask(latents []float32, batch []*sample) op.Array {
	first := batch[0]
	all := latents
	if m.inpaints() {
		n := len(first.latents)
		all = make([]float32, 0, len(latents)+len(latents)/n*len(first.beside))
		for _, s := range batch {
			for range s.rows() {
				all = append(append(all, latents[:n]...), s.beside...)
				latents = latents[n:]
			}
		}
	}
	channels := m.UNet.InChannels
	return op.Floats(all, len(all)/(channels*first.h*first.w), channels, first.h, first.w)
}

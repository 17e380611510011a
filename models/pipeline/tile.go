package pipeline

import (
	"context"
	"fmt"

	"likeness/models/op"
)

// Tiling says which pictures the VAE works on in tiles that overlap, which takes the memory of one tile, some more time, and shows slightly.
type Tiling string

// The ways of tiling.
const (
	TilingAuto Tiling = "auto" // pictures over 1024×1024 pixels
	TilingOn   Tiling = "on"   // pictures larger than one tile, the VAE's sample_size
	TilingOff  Tiling = "off"  // none
)

// untiled is the largest picture, in pixels, that TilingAuto leaves whole.
const untiled = 1024 * 1024

// plane is values of channels [C, h, w].
type plane struct {
	values  []float32
	c, h, w int
}

// cut is how tiles are cut: their size and the distance from one to the next in the input, and in the output the width over which
// neighbours are blended and what of each tile is kept. The proportions are those of diffusers' AutoencoderKL.
type cut struct{ size, step, blend, keep int }

// tileSize is the side of a tile in latents, a multiple of four.
func (m *Model) tileSize() int { return max(m.VAE.SampleSize/m.VAE.Factor()/4*4, 4) }

// tiled tells whether the VAE works on latents of this size in tiles.
func (e *Engine) tiled(h, w int) bool {
	m := e.model
	if e.cfg.Tiling == TilingOff || max(h, w) <= m.tileSize() {
		return false
	}
	f := m.VAE.Factor()
	return e.cfg.Tiling == TilingOn || h*f*w*f > untiled
}

// run computes f over the tiles of in, row by row, each blended into those above it and to its left.
func (c cut) run(in plane, f func(tile plane) (plane, error)) (plane, error) {
	var out plane
	var above []plane
	for y := 0; y < in.h; y += c.step {
		var row []plane
		for x := 0; x < in.w; x += c.step {
			tile, err := f(in.slice(y, x, min(c.size, in.h-y), min(c.size, in.w-x)))
			if err != nil {
				return plane{}, err
			}
			if out.values == nil {
				out = c.whole(in, tile)
			}
			if above != nil {
				tile.blendDown(above[len(row)], c.blend)
			}
			if len(row) > 0 {
				tile.blendRight(row[len(row)-1], c.blend)
			}
			row = append(row, tile)
			out.paste(tile, y/c.step*c.keep, x/c.step*c.keep, c.keep)
		}
		above = row
	}
	return out, nil
}

// whole is an empty output for all of in, of whose first tile first was made.
func (c cut) whole(in, first plane) plane {
	h, w := in.h*c.keep/c.step, in.w*c.keep/c.step
	return plane{make([]float32, first.c*h*w), first.c, h, w}
}

func newPlane(values []float32, c, h, w int) (plane, error) {
	if len(values) != c*h*w {
		return plane{}, fmt.Errorf("vae: %d values, needs %d", len(values), c*h*w)
	}
	return plane{values, c, h, w}, nil
}

// input is a batch of one.
func (p plane) input(name string) map[string]op.Array {
	return map[string]op.Array{name: op.Floats(p.values, 1, p.c, p.h, p.w)}
}

// slice copies a part.
func (p plane) slice(y, x, h, w int) plane {
	part := plane{make([]float32, 0, p.c*h*w), p.c, h, w}
	for c := range p.c {
		for i := range h {
			part.values = append(part.values, p.values[(c*p.h+y+i)*p.w+x:][:w]...)
		}
	}
	return part
}

// paste writes up to keep rows and columns of a tile at a place.
func (p plane) paste(tile plane, y, x, keep int) {
	h, w := min(keep, tile.h, p.h-y), min(keep, tile.w, p.w-x)
	for c := range p.c {
		for i := range h {
			copy(p.values[(c*p.h+y+i)*p.w+x:][:w], tile.values[(c*tile.h+i)*tile.w:])
		}
	}
}

// blendDown lets the upper rows of p grow out of the lower ones of the tile above.
func (p plane) blendDown(above plane, width int) {
	width = min(width, p.h, above.h)
	for c := range p.c {
		for i := range width {
			part := float32(i) / float32(width)
			from, to := above.values[(c*above.h+above.h-width+i)*above.w:], p.values[(c*p.h+i)*p.w:][:p.w]
			for x := range to {
				to[x] = from[x]*(1-part) + to[x]*part
			}
		}
	}
}

// blendRight lets the left columns of p grow out of the right ones of the tile to its left.
func (p plane) blendRight(left plane, width int) {
	width = min(width, p.w, left.w)
	for row := range p.c * p.h {
		from, to := left.values[row*left.w+left.w-width:], p.values[row*p.w:]
		for i := range width {
			part := float32(i) / float32(width)
			to[i] = from[i]*(1-part) + to[i]*part
		}
	}
}

// decodeLatents runs the VAE's decoder over unscaled latents.
func (e *Engine) decodeLatents(ctx context.Context, latents plane) (plane, error) {
	m := e.model
	f, size := m.VAE.Factor(), m.tileSize()
	run := func(tile plane) (plane, error) {
		out, err := m.decoder.Run(ctx, tile.input("latents"))
		if err != nil {
			return plane{}, fmt.Errorf("vae: %w", err)
		}
		return newPlane(out["image"].F32, m.VAE.OutChannels, tile.h*f, tile.w*f)
	}
	if !e.tiled(latents.h, latents.w) {
		return run(latents)
	}
	if err := m.decoder.enter(ctx); err != nil { // it stays open from tile to tile
		return plane{}, err
	}
	defer m.decoder.leave()
	return cut{size: size, step: size / 4 * 3, blend: size * f / 4, keep: size * f / 4 * 3}.run(latents, run)
}

// encodePixels runs the VAE's encoder over pixel_values: mean and logarithm of the variance [2·latent_channels, h, w].
func (e *Engine) encodePixels(ctx context.Context, pixels plane) (plane, error) {
	m := e.model
	f, size := m.VAE.Factor(), m.tileSize()
	run := func(tile plane) (plane, error) {
		out, err := m.encoder.Run(ctx, tile.input("pixel_values"))
		if err != nil {
			return plane{}, fmt.Errorf("vae encoder: %w", err)
		}
		both := append(out["latent_mean"].F32, out["latent_logvar"].F32...)
		return newPlane(both, 2*m.VAE.LatentChannels, tile.h/f, tile.w/f)
	}
	if !e.tiled(pixels.h/f, pixels.w/f) {
		return run(pixels)
	}
	if err := m.encoder.enter(ctx); err != nil {
		return plane{}, err
	}
	defer m.encoder.leave()
	return cut{size: size * f, step: size * f / 4 * 3, blend: size / 4, keep: size / 4 * 3}.run(pixels, run)
}

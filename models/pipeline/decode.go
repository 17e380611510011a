package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"

	"likeness/models/op"
	"likeness/models/pixels"
)

// decode makes the picture of latents [C, h, w], one at a time.
func (e *Engine) decode(ctx context.Context, latents []float32, h, w int) (*image.NRGBA, error) {
	select {
	case e.decoding <- struct{}{}:
		defer func() { <-e.decoding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	cfg := e.model.VAE
	out, err := e.decodeLatents(ctx, plane{e.model.unscale(latents), cfg.LatentChannels, h, w})
	if err != nil {
		return nil, err
	}
	if !op.Finite(out.values) {
		return nil, fmt.Errorf("vae: %w", ErrNotNumbers)
	}
	picture, err := pixels.Image(out.values, out.w, out.h)
	if err != nil {
		return nil, fmt.Errorf("vae: %w", err)
	}
	return picture, nil
}

// PNG encodes the picture, at the speed of a server rather than for the smallest file.
func (r *Result) PNG() ([]byte, error) {
	var b bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&b, r.Image); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

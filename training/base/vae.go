//go:build torch

package base

import (
	"context"
	"image"
	"math/rand/v2"

	"likeness/models/backend/torch"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/vae"
	"likeness/training/loop"
	"likeness/training/portraits"
)

// crop is the side of the pieces of pictures that the VAE is trained on: convolutions need no more, and it is four times cheaper.
const crop = 64

// The weights of the loss. Latents are noiseless until noiseFrom of the run is done.
const (
	edgeWeight = 0.5
	klWeight   = 2e-5
	noiseFrom  = 0.3
)

// TrainVAE trains an AutoencoderKL of the configuration in the run folder cfg.Dir.
func TrainVAE(ctx context.Context, engine *torch.Engine, arch vae.Config, cfg loop.Config) error {
	renderer := portraits.NewRenderer()
	task := loop.Task{
		Model: vaeLoss(arch),
		Init: func() (map[string]op.Array, error) {
			return loop.Init(vaeLoss(arch), 1, ".conv2.weight")
		},
		Batch: func(r *rand.Rand, progress float64) (map[string]op.Array, error) {
			return vaeBatch(renderer, arch, cfg.Batch, r, progress > noiseFrom), nil
		},
		Sample: func(average *torch.Params) (image.Image, error) {
			return reconstructions(engine, arch, average)
		},
	}
	return loop.Train(ctx, engine, cfg, task)
}

// vaeLoss is L1 over pixels and over differences of neighbouring pixels, and the Kullback-Leibler divergence of the latents from a normal.
func vaeLoss(cfg vae.Config) op.Model {
	return func(s op.Scope) map[string]op.Tensor {
		x := s.Input("pixel_values", op.Float32, -1, cfg.InChannels, crop, crop)
		noise := s.Input("noise", op.Float32, -1, cfg.LatentChannels, crop/cfg.Factor(), crop/cfg.Factor())
		mean, logvar := vae.Encode(s, cfg, x)
		y := vae.Decode(s, cfg, mean.Add(logvar.Scale(0.5).Exp().Mul(noise)))
		d := y.Sub(x) // [B, 3, crop, crop]
		edges := abs(d.Slice(2, 1, crop).Sub(d.Slice(2, 0, crop-1))).Mean(0, 1, 2, 3).
			Add(abs(d.Slice(3, 1, crop).Sub(d.Slice(3, 0, crop-1))).Mean(0, 1, 2, 3))
		l1 := abs(d).Mean(0, 1, 2, 3)
		mse := d.Mul(d).Mean(0, 1, 2, 3)
		kl := mean.Mul(mean).Add(logvar.Exp()).Sub(logvar).Offset(-1).Mean(0, 1, 2, 3).Scale(0.5)
		loss := l1.Add(mse).Add(edges.Scale(edgeWeight)).Add(kl.Scale(klWeight))
		psnr := mse.Log().Scale(-10 / 2.302585093).Offset(6.0206) // of values in -1..1, in dB
		return map[string]op.Tensor{"loss": loss, "l1": l1, "kl": kl, "psnr": psnr}
	}
}

// abs is |x|, smooth within a grey level.
func abs(x op.Tensor) op.Tensor { return x.Mul(x).Offset(1e-6).Sqrt() }

func vaeBatch(renderer *portraits.Renderer, arch vae.Config, batch int, r *rand.Rand, noisy bool) map[string]op.Array {
	const perPicture = 2
	size := 3 * crop * crop
	values := make([]float32, batch*size)
	var picture *image.RGBA
	piece := image.NewRGBA(image.Rect(0, 0, crop, crop))
	for i := range batch {
		if i%perPicture == 0 {
			id := portraits.Train.Identity(r.IntN(1 << 20))
			picture = renderer.Draw(id, portraits.NewContext(r))
		}
		at := image.Pt(r.IntN(portraits.Size-crop+1), r.IntN(portraits.Size-crop+1))
		cut(piece, picture, at)
		pixels.Planes(values[i*size:], piece)
	}
	side := crop / arch.Factor()
	noise := make([]float32, batch*arch.LatentChannels*side*side)
	if noisy {
		for i := range noise {
			noise[i] = float32(r.NormFloat64())
		}
	}
	return map[string]op.Array{
		"pixel_values": op.Floats(values, batch, 3, crop, crop),
		"noise":        op.Floats(noise, batch, arch.LatentChannels, side, side),
	}
}

func cut(piece, picture *image.RGBA, at image.Point) {
	for y := range piece.Rect.Dy() {
		copy(piece.Pix[piece.PixOffset(0, y):piece.PixOffset(0, y)+4*piece.Rect.Dx()], picture.Pix[picture.PixOffset(at.X, at.Y+y):])
	}
}

// reconstructions shows validation pictures in the upper row of each pair of rows and what the VAE makes of them below.
func reconstructions(engine *torch.Engine, arch vae.Config, weights ...*torch.Params) (image.Image, error) {
	const columns, pairs = 8, 2
	originals := ValidationPictures(columns * pairs)
	decoded, err := Reconstruct(engine, arch, originals, weights...)
	if err != nil {
		return nil, err
	}
	var all []image.Image
	for p := range pairs {
		for i := range columns {
			all = append(all, originals[p*columns+i])
		}
		all = append(all, decoded[p*columns:(p+1)*columns]...)
	}
	return pixels.Grid(all, columns), nil
}

// ValidationPictures draws n pictures of validation identities in random contexts, the same each time.
func ValidationPictures(n int) []*image.RGBA {
	renderer := portraits.NewRenderer()
	r := rand.New(rand.NewPCG(7, 7))
	out := make([]*image.RGBA, n)
	for i := range out {
		drawn := renderer.Draw(portraits.Validation.Identity(i), portraits.NewContext(r))
		out[i] = image.NewRGBA(drawn.Rect)
		copy(out[i].Pix, drawn.Pix)
	}
	return out
}

// Reconstruct encodes and decodes pictures of one size.
func Reconstruct(engine *torch.Engine, arch vae.Config, pictures []*image.RGBA, weights ...*torch.Params) ([]image.Image, error) {
	side := pictures[0].Rect.Dx()
	values := make([]float32, len(pictures)*3*side*side)
	for i, p := range pictures {
		pixels.Planes(values[i*3*side*side:], p)
	}
	in := map[string]op.Array{"pixel_values": op.Floats(values, len(pictures), 3, side, side)}
	model := func(s op.Scope) map[string]op.Tensor {
		mean, _ := vae.Encode(s, arch, s.Input("pixel_values", op.Float32, -1, arch.InChannels, -1, -1))
		return map[string]op.Tensor{"image": vae.Decode(s, arch, mean)}
	}
	out, err := engine.Run(model, in, weights...)
	if err != nil {
		return nil, err
	}
	return images(out["image"])
}

// images turns [B, 3, H, W] into pictures.
func images(a op.Array) ([]image.Image, error) {
	h, w := a.Dims[2], a.Dims[3]
	out := make([]image.Image, a.Dims[0])
	for i := range out {
		img, err := pixels.Image(a.F32[i*3*h*w:(i+1)*3*h*w], w, h)
		if err != nil {
			return nil, err
		}
		out[i] = img
	}
	return out, nil
}

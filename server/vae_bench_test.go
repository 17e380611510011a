package main

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pixels"
	"likeness/models/vae"
	"likeness/training/portraits"
)

// drawPortraits draws persons [from, from + n) of a split, each in a random context, as planes [n, 3, H, W].
func drawPortraits(split portraits.Split, from, n int) op.Array {
	const size = 3 * portraits.Size * portraits.Size
	values, renderer := make([]float32, n*size), portraits.NewRenderer()
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(from+i), 0x766165))
		pixels.Planes(values[i*size:], renderer.Draw(split.Identity(from+i), portraits.NewContext(r)))
	}
	return op.Floats(values, n, 3, portraits.Size, portraits.Size)
}

// distortion gathers the errors of reconstructions, of values in -1..1.
type distortion struct{ squares, values, decibels, pictures float64 }

// add compares pictures [N, 3, H, W].
func (d *distortion) add(want, got op.Array) {
	size := len(want.F32) / want.Dims[0]
	for from := 0; from < len(want.F32); from += size {
		var squares float64
		for i, v := range want.F32[from : from+size] {
			e := float64(v - max(-1, min(1, got.F32[from+i])))
			squares += e * e
		}
		d.decibels += psnr(squares / float64(size))
		d.pictures++
		d.squares, d.values = d.squares+squares, d.values+float64(size)
	}
}

// psnr of a mean squared error, in dB.
func psnr(mse float64) float64 { return 10 * math.Log10(4/mse) }

// BenchmarkVAE is how well the pack's VAE reconstructs pictures of test persons, in float32 on ONNX Runtime, beside what principal
// components of patches make of as many numbers: the means over pictures, and PSNR of the squared error pooled over all of them. An
// iteration is a batch of other pictures.
func BenchmarkVAE(b *testing.B) {
	const batch = 16
	weights, err := checkpoint.OpenComponent(filepath.Join(packFolder(b), checkpoint.VAE))
	if err != nil {
		b.Fatal(err)
	}
	defer weights.Close()
	cfg, err := vae.ParseConfig(weights.Config())
	if err != nil {
		b.Fatal(err)
	}
	run := func(network op.Model) func(string, op.Array, string) op.Array {
		session, err := openNetwork(checkpoint.VAE, network, weights, ort.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { session.Close() })
		return func(input string, a op.Array, output string) op.Array {
			out, err := session.Run(b.Context(), map[string]op.Array{input: a})
			if err != nil {
				b.Fatal(err)
			}
			return out[output]
		}
	}
	encode, decode := run(vae.Encoder(cfg)), run(vae.Decoder(cfg))
	components := fitPatches(drawPortraits(portraits.Train, 0, 64), cfg.Factor(), cfg.LatentChannels)
	var learned, linear distortion
	for n := 0; b.Loop(); n += batch {
		want := drawPortraits(portraits.Test, n, batch)
		got := decode("latents", encode("pixel_values", want, "latent_mean"), "image")
		learned.add(want, got)
		linear.add(want, components.reconstruct(want))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(learned.decibels/learned.pictures, "dB")
	b.ReportMetric(linear.decibels/linear.pictures, "pca-dB")
	b.ReportMetric(psnr(learned.squares/learned.values), "pooled-dB")
	b.ReportMetric(learned.pictures, "pictures")
}

// patchComponents are the principal components of square patches.
type patchComponents struct {
	side  int
	mean  []float64
	basis [][]float64 // orthonormal
}

// each visits the patches of pictures [N, 3, H, W]; at[i] is the place of a patch's value i in the picture's data.
func (p *patchComponents) each(pictures op.Array, visit func(at []int)) {
	h, w := pictures.Dims[2], pictures.Dims[3]
	at := make([]int, 3*p.side*p.side)
	for plane := 0; plane < 3*pictures.Dims[0]; plane += 3 {
		for y := 0; y < h; y += p.side {
			for x := 0; x < w; x += p.side {
				for i := range at {
					c, dy, dx := i/(p.side*p.side), i/p.side%p.side, i%p.side
					at[i] = ((plane+c)*h+y+dy)*w + x + dx
				}
				visit(at)
			}
		}
	}
}

// fitPatches finds the first components by orthogonal iteration on the covariance of the pictures' patches.
func fitPatches(pictures op.Array, side, components int) *patchComponents {
	n := 3 * side * side
	p := &patchComponents{side: side, mean: make([]float64, n)}
	square, count := make([]float64, n*n), 0.0
	p.each(pictures, func(at []int) {
		count++
		for i, a := range at {
			v := float64(pictures.F32[a])
			p.mean[i] += v
			for j, c := range at[:i+1] {
				square[i*n+j] += v * float64(pictures.F32[c])
			}
		}
	})
	for i := range p.mean {
		p.mean[i] /= count
		for j := range i + 1 {
			square[i*n+j] = square[i*n+j]/count - p.mean[i]*p.mean[j]
			square[j*n+i] = square[i*n+j]
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range components {
		start := make([]float64, n)
		for i := range start {
			start[i] = r.NormFloat64()
		}
		p.basis = append(p.basis, start)
	}
	for range 100 {
		for k, v := range p.basis {
			next := make([]float64, n)
			for i := range next {
				next[i] = dot(square[i*n:(i+1)*n], v)
			}
			for _, other := range p.basis[:k] {
				subtract(next, other, dot(next, other))
			}
			length := math.Sqrt(dot(next, next))
			subtract(next, next, 1-1/length)
			p.basis[k] = next
		}
	}
	return p
}

// reconstruct replaces each patch by its projection.
func (p *patchComponents) reconstruct(pictures op.Array) op.Array {
	out := op.Floats(make([]float32, len(pictures.F32)), pictures.Dims...)
	patch := make([]float64, len(p.mean))
	p.each(pictures, func(at []int) {
		for i, a := range at {
			patch[i] = p.mean[i] - float64(pictures.F32[a])
		}
		made := append([]float64(nil), p.mean...)
		for _, v := range p.basis {
			subtract(made, v, dot(patch, v))
		}
		for i, a := range at {
			out.F32[a] = float32(made[i])
		}
	})
	return out
}

func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// subtract takes by·b from a.
func subtract(a, b []float64, by float64) {
	for i, v := range b {
		a[i] -= by * v
	}
}

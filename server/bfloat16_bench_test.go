package main

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/op/optest"
	"likeness/models/unet"
	"likeness/models/vae"
)

// BenchmarkPeerBFloat16 is a step of the UNet of two rows and the decoding of a picture in bfloat16, beside float32. How far they are apart is
// the root of the mean squared difference by that of float32's output.
func BenchmarkPeerBFloat16(b *testing.B) {
	if err := ort.CanBFloat16(); err != nil {
		b.Fatal(err)
	}
	p := startPeer(b)
	io := optest.Read(b, p.do(b, request{"do": "prepare"}).File)
	p.in.Close() // its memory is needed
	denoiser := func(config []byte) (op.Model, error) {
		cfg, err := unet.ParseConfig(config)
		return unet.New(cfg, nil), err
	}
	decoder := func(config []byte) (op.Model, error) {
		cfg, err := vae.ParseConfig(config)
		return vae.Decoder(cfg), err
	}
	for _, size := range []int{256, 512} {
		step := stepInputs(io, size, 2)
		latents := map[string]op.Array{"latents": stepInputs(io, size, 1)["sample"]}
		b.Run(fmt.Sprintf("unet/%d", size), func(b *testing.B) { racePrecisions(b, checkpoint.UNet, denoiser, step, "noise_pred") })
		b.Run(fmt.Sprintf("vae/%d", size), func(b *testing.B) { racePrecisions(b, checkpoint.VAE, decoder, latents, "image") })
	}
}

func racePrecisions(b *testing.B, name string, model func(config []byte) (op.Model, error), in map[string]op.Array, output string) {
	exact := openComponent(b, name, model)
	start := time.Now()
	rough := openPrecision(b, name, model, onnx.BFloat16)
	opened := time.Since(start)
	race(b, contender{"", timed(b, rough, in)}, contender{"float32-", timed(b, exact, in)})
	var outputs [2][]float32
	for i, s := range []*ort.Session{exact, rough} {
		out, err := s.Run(b.Context(), in)
		if err != nil {
			b.Fatal(err)
		}
		outputs[i] = out[output].F32
	}
	var off, squares float64
	for i, v := range outputs[0] {
		off += math.Pow(float64(outputs[1][i]-v), 2)
		squares += float64(v) * float64(v)
	}
	b.ReportMetric(math.Sqrt(off/squares), "error")
	b.ReportMetric(opened.Seconds(), "open-s")
	if err := errors.Join(exact.Close(), rough.Close()); err != nil {
		b.Fatal(err)
	}
}

//go:build torch

package base

import (
	"math"
	"math/rand/v2"
	"testing"

	"likeness/models/backend/ref"
	"likeness/models/op"
)

// A batch's samples, targets and weights are those of the schedule: from the sample and the true v the clean latent comes back
// (x₀ = √ᾱ·x - √(1-ᾱ)·v), the levels cover the whole schedule, and a perfect prediction has no loss.
func TestNoisyBatch(t *testing.T) {
	const size = 10
	arch := Portraits(3514, 3513, 32)
	noise := NewNoise(arch.Scheduler)
	b := noise.Batch(size, arch.UNet)
	r := rand.New(rand.NewPCG(1, 2))
	latents := make([][]float32, size)
	for i := range latents {
		latents[i] = make([]float32, op.Size(b.dims[1:]))
		for j := range latents[i] {
			latents[i][j] = float32(r.NormFloat64())
		}
		b.Add(i, latents[i], r)
	}
	alphas := arch.Scheduler.AlphasCumprod()
	for i, latent := range latents {
		step := int(b.timestep[i])
		if tenth := len(alphas) / size; step/tenth != i {
			t.Errorf("sample %d is at step %d, want one of its tenth of the schedule", i, step)
		}
		back := make([]float32, len(latent))
		at := i * len(latent)
		arch.Scheduler.PredictX0(back, b.sample[at:at+len(latent)], b.target[at:at+len(latent)], float64(step))
		for j := range back {
			if d := math.Abs(float64(back[j] - latent[j])); d > 1e-4 {
				t.Fatalf("sample %d: latent %d comes back %g off", i, j, d)
			}
		}
		snr := alphas[step] / (1 - alphas[step])
		if want := (math.Min(snr, gamma) + 1) / (snr + 1); math.Abs(float64(b.weight[i])-want) > 1e-6 {
			t.Errorf("sample %d has weight %g, want %g", i, b.weight[i], want)
		}
	}
	loss := func(s op.Scope) map[string]op.Tensor {
		n := NoisyInputs(s, arch.UNet)
		return map[string]op.Tensor{"perfect": n.Loss(n.target), "nothing": n.Loss(n.target.Scale(0))}
	}
	out, err := ref.Run(loss, nil, b.Inputs())
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for i, v := range b.target {
		want += float64(v) * float64(v) * float64(b.weight[i/len(latents[0])]) / float64(len(b.target))
	}
	if got := float64(out["nothing"].F32[0]); math.Abs(got-want) > 1e-4*want || out["perfect"].F32[0] != 0 {
		t.Errorf("losses %g and %g, want %g and 0", got, out["perfect"].F32[0], want)
	}
}

// Levels that lean to the early steps of sampling still cover the schedule.
func TestEarlyNoise(t *testing.T) {
	const size = 1000
	arch := Portraits(3514, 3513, 32)
	noise := NewNoise(arch.Scheduler)
	noise.Early = true
	b := noise.Batch(size, arch.UNet)
	r := rand.New(rand.NewPCG(1, 2))
	var quarters [4]int
	for i := range size {
		b.Add(i, make([]float32, op.Size(b.dims[1:])), r)
		quarters[int(b.timestep[i])/250]++
	}
	// level = 1 - u² exceeds a for u < √(1-a).
	for i, want := range [4]float64{1 - math.Sqrt(0.75), math.Sqrt(0.75) - math.Sqrt(0.5), math.Sqrt(0.5) - 0.5, 0.5} {
		if math.Abs(float64(quarters[i])/size-want) > 0.01 {
			t.Errorf("%d of %d levels are in quarter %d, want %.0f", quarters[i], size, i, want*size)
		}
	}
}

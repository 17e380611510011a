package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"likeness/models/pipeline"
)

// warmUpShortcuts opens every network that the pictures need, so that the times compared are those of steps alone.
func warmUpShortcuts(ctx context.Context, m *model, r pipeline.Request) error {
	r.Steps, r.PreviewEvery, r.Image, r.Mask, r.Strength = 2, 0, nil, nil, 0
	for _, r := range []pipeline.Request{r, r.Exact()} {
		if _, err := m.Generate(ctx, r, nil); err != nil {
			return err
		}
	}
	return nil
}

// difference is how far pictures are from the exact ones.
type difference struct {
	latents, deviation float64 // mean absolute difference, and standard deviation of the exact ones
	psnr               float64 // of the pictures' values 0…255, in dB; +Inf where they are the same
	time, exactTime    time.Duration
}

// compare holds pictures against the exact ones of the same seeds.
func compare(results, exact []*pipeline.Result) difference {
	var d difference
	var n, sum, squares, errors, values float64
	for i, r := range results {
		want := exact[i]
		for j, v := range want.Latents.F32 {
			d.latents += math.Abs(float64(r.Latents.F32[j] - v))
			sum, squares, n = sum+float64(v), squares+float64(v)*float64(v), n+1
		}
		for j, v := range want.Image.Pix {
			if j%4 != 3 {
				by := float64(v) - float64(r.Image.Pix[j])
				errors, values = errors+by*by, values+1
			}
		}
		d.time, d.exactTime = max(d.time, r.Timings.Denoise), max(d.exactTime, want.Timings.Denoise) // they were made together
	}
	d.latents /= n
	d.deviation = math.Sqrt(max(squares/n-sum/n*sum/n, 0))
	d.psnr = 10 * math.Log10(255*255/(errors/values))
	return d
}

func (d difference) write(w io.Writer) error {
	_, err := fmt.Fprintf(w, "steps took %v, exact ones %v: %.2f times as long\nfrom the exact picture: latents %.4f in the mean (their deviation is %.2f), pixels %.1f dB PSNR\n",
		d.time.Round(time.Millisecond), d.exactTime.Round(time.Millisecond), float64(d.exactTime)/float64(d.time), d.latents, d.deviation, d.psnr)
	return err
}

//go:build torch

package tune

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"likeness/models/safetensors"
	"likeness/training/base"
)

// The covariance is the mean of the text states' products over every place of every prompt, and its inverse, with the ridge, inverts it.
func TestCovariance(t *testing.T) {
	dir := withEncoder(t)
	b := openBase(t, newEngine(t), dir)
	prompts := []string{"a photo of a cat", "a drawing of a face wearing a hat", "a red dog", "hi"} // those of withCovariance
	d := b.Text.HiddenSize
	want, places := make([]float64, d*d), 0
	for _, prompt := range prompts {
		e, err := b.tokenizer.Encode(prompt, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := base.Sampler{Architecture: b.Architecture, Engine: b.engine}.Text(b.tokenizer, e.IDs, nil, b.UNetAndText...)
		if err != nil {
			t.Fatal(err)
		}
		for at := range len(e.IDs) {
			x := text.F32[(len(e.IDs)+at)*d:][:d]
			for i := range d * d {
				want[i] += float64(x[i/d]) * float64(x[i%d])
			}
			places++
		}
	}
	f, err := safetensors.Open(filepath.Join(dir, CovarianceFile))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := f.Float32(covarianceName)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	trace := 0.0
	for i, v := range want {
		want[i] = v / float64(places)
		if math.Abs(float64(got[i])-want[i]) > 1e-5 {
			t.Fatalf("value %d is %g, want %g", i, got[i], want[i])
		}
		if i%(d+1) == 0 {
			trace += want[i]
		}
	}
	inverse, err := b.inverseCovariance()
	if err != nil {
		t.Fatal(err)
	}
	for i := range d {
		for j := range d {
			sum, one := 0.0, 0.0
			for k := range d {
				c := float64(got[i*d+k])
				if i == k {
					c += ridge * trace / float64(d)
				}
				sum += c * inverse[k*d+j]
			}
			if i == j {
				one = 1
			}
			if math.Abs(sum-one) > 1e-2 {
				t.Fatalf("covariance times inverse is %g at %d, %d", sum, i, j)
			}
		}
	}
}

// A covariance that is another model's, or none, is refused with the command that makes it.
func TestCovarianceRefused(t *testing.T) {
	dir := withEncoder(t)
	b := openBase(t, newEngine(t), dir)
	path, d := filepath.Join(dir, CovarianceFile), b.Text.HiddenSize
	write := func(values []float32, base string) {
		t.Helper()
		tensors := map[string]safetensors.Tensor{covarianceName: safetensors.F32(values, d, d)}
		if err := safetensors.Write(path, tensors, map[string]string{"base_model": base}); err != nil {
			t.Fatal(err)
		}
	}
	negative := make([]float32, d*d)
	negative[0] = -1
	for want, spoil := range map[string]func(){
		"another model's":                     func() { write(make([]float32, d*d), "other") },
		"not positive definite":               func() { write(negative, b.fingerprint) },
		"`training covariance --model " + dir: func() { os.Remove(path) },
	} {
		spoil()
		if _, err := b.inverseCovariance(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

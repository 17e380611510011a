//go:build torch

package tune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/gonum/mat"

	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/training/base"
)

// CovarianceFile is the file of a model folder that perfusion needs: the uncentred covariance [D, D] of the text states that the UNet reads,
// E[x·xᵀ] over all places of many prompts. It is no part of the model's fingerprint.
const CovarianceFile = "covariance.safetensors"

const covarianceName = "covariance"

// ridge is added to the covariance's diagonal, as a part of its mean, before it is inverted: few prompts leave directions unseen.
const ridge = 1e-4

// Covariance computes the covariance of the text states of prompts and writes it into the model folder; tell, which may be nil, hears how
// many prompts are read.
func (b *Base) Covariance(ctx context.Context, prompts []string, tell func(done int)) error {
	const together = 32
	d, length := b.Text.HiddenSize, b.Text.MaxPositionEmbeddings
	sum := make([]float64, d*d)
	model := func(s op.Scope) map[string]op.Tensor {
		ids := s.Input("input_ids", op.Int64, -1, length)
		x := base.TextStates(s.Component("text_encoder"), b.Text, ids).Reshape(-1, d)
		return map[string]op.Tensor{"products": x.Transpose(1, 0).MatMul(x)}
	}
	for first := 0; first < len(prompts); first += together {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rows := prompts[first:min(first+together, len(prompts))]
		var ids []int64
		for _, prompt := range rows {
			e, err := b.tokenizer.Encode(prompt, nil)
			if err != nil {
				return fmt.Errorf("prompt %q: %w", prompt, err)
			}
			ids = append(ids, e.IDs...)
		}
		out, err := b.engine.Run(model, map[string]op.Array{"input_ids": op.Ints(ids, len(rows), length)}, b.UNetAndText...)
		if err != nil {
			return err
		}
		for i, v := range out["products"].F32 {
			sum[i] += float64(v)
		}
		if tell != nil {
			tell(first + len(rows))
		}
	}
	values := make([]float32, len(sum))
	for i, v := range sum {
		values[i] = float32(v / float64(len(prompts)*length))
	}
	return safetensors.Write(filepath.Join(b.dir, CovarianceFile), map[string]safetensors.Tensor{covarianceName: safetensors.F32(values, d, d)},
		map[string]string{"base_model": b.fingerprint, "prompts": strconv.Itoa(len(prompts))})
}

// inverseCovariance reads the model's covariance and inverts it, [D, D].
func (b *Base) inverseCovariance() ([]float64, error) {
	path, d := filepath.Join(b.dir, CovarianceFile), b.Text.HiddenSize
	again := fmt.Sprintf("make it with `training covariance --model %s`", b.dir)
	if stat, err := os.Stat(b.dir); err == nil && !stat.IsDir() {
		return nil, fmt.Errorf("%s is one file, and %s lies in a model's folder: convert it to a diffusers folder", b.dir, CovarianceFile)
	}
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there, which says how the model's text states vary: %s", path, again)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	values, dims, err := f.Float32(covarianceName)
	if err != nil {
		return nil, err
	}
	if len(dims) != 2 || dims[0] != d || dims[1] != d || f.Metadata()["base_model"] != b.fingerprint {
		return nil, fmt.Errorf("%s is another model's, %v: %s", path, dims, again)
	}
	return invert(values, d, path)
}

// invert is the inverse of a covariance with the ridge.
func invert(values []float32, d int, path string) ([]float64, error) {
	matrix, trace := mat.NewSymDense(d, nil), 0.0
	for i := range d {
		trace += float64(values[i*d+i])
	}
	for i := range d {
		for j := i; j < d; j++ {
			matrix.SetSym(i, j, (float64(values[i*d+j])+float64(values[j*d+i]))/2)
		}
		matrix.SetSym(i, i, matrix.At(i, i)+ridge*trace/float64(d))
	}
	var factors mat.Cholesky
	if !factors.Factorize(matrix) {
		return nil, fmt.Errorf("%s holds no covariance: it is not positive definite", path)
	}
	var inverse mat.SymDense
	if err := factors.InverseTo(&inverse); err != nil {
		return nil, fmt.Errorf("%s cannot be inverted: %w: more prompts of more kinds are needed", path, err)
	}
	out := make([]float64, d*d)
	for i := range d {
		for j := range d {
			out[i*d+j] = inverse.At(i, j)
		}
	}
	return out, nil
}

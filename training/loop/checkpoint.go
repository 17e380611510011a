//go:build torch

package loop

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"likeness/models/op"
	"likeness/models/safetensors"
)

const checkpointFile = "checkpoint.safetensors"

// The parts of a checkpoint, as prefixes of its tensor names.
const (
	partWeights = "weights:"
	partAverage = "average:"
	partAdam    = "adam:"
)

type checkpoint struct {
	weights, average, adam map[string]op.Array
	step                   int
	elapsed                time.Duration
}

func (r *run) save() error {
	tensors := map[string]safetensors.Tensor{}
	for prefix, read := range map[string]func() (map[string]op.Array, error){
		partWeights: r.params.Arrays, partAverage: r.ema.Params().Arrays, partAdam: r.adam.Arrays,
	} {
		arrays, err := read()
		if err != nil {
			return fmt.Errorf("save %s: %w", r.Dir, err)
		}
		for name, a := range arrays {
			tensors[prefix+name] = safetensors.F32(a.F32, a.Dims...)
		}
	}
	meta := map[string]string{"step": strconv.Itoa(r.step), "elapsed": r.elapsed.String()}
	return safetensors.Write(filepath.Join(r.Dir, checkpointFile), tensors, meta)
}

// readCheckpoint returns an empty checkpoint where the folder has none.
func readCheckpoint(dir string) (c checkpoint, err error) {
	path := filepath.Join(dir, checkpointFile)
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer f.Close()
	if c.step, err = strconv.Atoi(f.Metadata()["step"]); err != nil {
		return c, fmt.Errorf("%s: step: %w", path, err)
	}
	if c.elapsed, err = time.ParseDuration(f.Metadata()["elapsed"]); err != nil {
		return c, fmt.Errorf("%s: elapsed: %w", path, err)
	}
	parts := map[string]map[string]op.Array{partWeights: {}, partAverage: {}, partAdam: {}}
	for _, name := range f.Names() {
		part, rest, _ := strings.Cut(name, ":")
		into := parts[part+":"]
		if into == nil {
			return c, fmt.Errorf("%s: %s: not a tensor of a training checkpoint", path, name)
		}
		values, dims, err := f.Float32(name)
		if err != nil {
			return c, err
		}
		into[rest] = op.Floats(values, dims...)
	}
	c.weights, c.average, c.adam = parts[partWeights], parts[partAverage], parts[partAdam]
	return c, nil
}

// Average returns the averaged weights of a run, finished or not.
func Average(dir string) (map[string]op.Array, error) {
	c, err := readCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	if c.average == nil {
		return nil, fmt.Errorf("%s: no %s: train there first", dir, checkpointFile)
	}
	return c.average, nil
}

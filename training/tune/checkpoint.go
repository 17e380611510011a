//go:build torch

package tune

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"likeness/encoder"
	"likeness/models/op"
	"likeness/models/safetensors"
)

const checkpointFile = "checkpoint.safetensors"

// The parts of a checkpoint, as prefixes of its tensor names; the optimizers' are behind partOptimizer and the group's name.
const (
	partNumbers   = "numbers:"
	partBest      = "best:"
	partOptimizer = "optimizer:"
)

// progress is what a checkpoint holds beside tensors.
type progress struct {
	Settings       string // of the run, photos and base
	Step, BestStep int
	Waited         int
	First, Last    float64
	BestLoss       float64
	Elapsed        time.Duration
}

// settings identify what a checkpoint belongs to.
func (r *run) settings() (string, error) {
	var pictures []*encoder.Photo
	for _, p := range r.photos {
		pictures = append(pictures, p.Picture)
	}
	version := ""
	if r.base.encoder != nil {
		version = r.base.encoder.Version()
	}
	data, err := json.Marshal([]any{r.cfg, encoder.HashPhotos(pictures), r.base.fingerprint, version})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

// save writes the state of the run into its folder, if it has one.
func (r *run) save() error {
	if r.cfg.Run == "" || r.best == nil {
		return nil
	}
	tensors := map[string]safetensors.Tensor{}
	put := func(prefix string, arrays map[string]op.Array, err error) error {
		for name, a := range arrays {
			tensors[prefix+name] = safetensors.F32(a.F32, a.Dims...)
		}
		return err
	}
	errs := []error{put(partBest, r.best, nil)}
	for part, g := range r.groups {
		numbers, err := g.params.Views()
		if errs = append(errs, put(partNumbers, numbers, err)); g.optimizer == nil {
			continue
		}
		state, err := g.optimizer.Arrays()
		errs = append(errs, put(partOptimizer+part+":", state, err))
	}
	settings, err := r.settings()
	errs = append(errs, err)
	state, err := json.Marshal(progress{settings, r.step, r.bestStep, r.waited, r.first, r.last, r.bestLoss, r.elapsed})
	if err := errors.Join(append(errs, err, os.MkdirAll(r.cfg.Run, 0o755))...); err != nil {
		return fmt.Errorf("save %s: %w", r.cfg.Run, err)
	}
	return safetensors.Write(filepath.Join(r.cfg.Run, checkpointFile), tensors, map[string]string{"progress": string(state)})
}

// resume goes on from the folder's checkpoint, if there is one of the same settings.
func (r *run) resume() error {
	if r.cfg.Run == "" {
		return nil
	}
	path := filepath.Join(r.cfg.Run, checkpointFile)
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var p progress
	if err := json.Unmarshal([]byte(f.Metadata()["progress"]), &p); err != nil {
		return fmt.Errorf("%s: progress: %w", path, err)
	}
	settings, err := r.settings()
	if err != nil || p.Settings != settings {
		return err // another run's: this one begins anew
	}
	tensors := map[string]op.Array{}
	for _, name := range f.Names() {
		values, dims, err := f.Float32(name)
		if err != nil {
			return err
		}
		tensors[name] = op.Floats(values, dims...)
	}
	part := func(prefix string) map[string]op.Array {
		out := map[string]op.Array{}
		for name, a := range tensors {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				out[rest] = a
			}
		}
		return out
	}
	numbers := part(partNumbers)
	var errs []error
	for name, g := range r.groups {
		own := maps.Clone(numbers)
		maps.DeleteFunc(own, func(n string, _ op.Array) bool { return !strings.HasPrefix(n, name+"/") })
		if errs = append(errs, g.params.Set(own)); g.optimizer != nil {
			errs = append(errs, g.optimizer.Set(part(partOptimizer+name+":")))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.best, r.step, r.bestStep, r.waited = part(partBest), p.Step, p.BestStep, p.Waited
	r.first, r.last, r.bestLoss, r.elapsed = p.First, p.Last, p.BestLoss, p.Elapsed
	return nil
}

// forget removes the checkpoint of a run that is over.
func (r *run) forget() error {
	if r.cfg.Run == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(r.cfg.Run, checkpointFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

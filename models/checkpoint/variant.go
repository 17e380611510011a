package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"likeness/models/safetensors"
)

// Variant is a model folder that differs from another in some weights.
type Variant struct {
	Weights map[string]map[string][]float32 // by component and name; they are written in the types of the folder's files
	Without []string                        // components that are left out
	Beside  func(dir string) error          // writes more into the folder before it is seen; may be nil
}

// WriteVariant makes or replaces the diffusers folder dir, as a whole: until the end there is the old one, or none. A folder that holds no
// model, or f itself, is not replaced. Of a single file it writes what the file converts to.
func (f *Folder) WriteVariant(dir string, v Variant) error {
	if err := f.Replaceable(dir); err != nil {
		return err
	}
	dir = filepath.Clean(dir)
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return err
	}
	made, old := filepath.Join(tmp, "new"), filepath.Join(tmp, "old")
	if err := f.write(made, v); err != nil {
		return fmt.Errorf("%s: %w", dir, errors.Join(err, os.RemoveAll(tmp)))
	}
	if err := os.Rename(dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	if err := os.Rename(made, dir); err != nil {
		return fmt.Errorf("%w: the new folder is %s, the old one, if there was one, %s", err, made, old)
	}
	return os.RemoveAll(tmp)
}

// Replaceable tells why WriteVariant would not write dir: nil if it is not there, is empty, or is another model folder, where one can be made.
func (f *Folder) Replaceable(dir string) error {
	dir = filepath.Clean(dir)
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return err
	}
	if err := os.Remove(tmp); err != nil {
		return err
	}
	stat, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if own, err := os.Stat(f.path); err == nil && os.SameFile(stat, own) {
		return fmt.Errorf("%s is the model itself: name another folder", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("a model folder cannot be written: %w", err)
	}
	if len(entries) > 0 && !exists(filepath.Join(dir, indexFile)) {
		return fmt.Errorf("%s is no model folder and not empty: name another", dir)
	}
	return nil
}

func (f *Folder) write(dir string, v Variant) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	index, err := f.index()
	if err != nil {
		return err
	}
	for _, name := range v.Without {
		delete(index, name)
	}
	for name := range index {
		if err := f.writePart(name, dir, v.Weights[name]); err != nil {
			return err
		}
	}
	if err := WriteJSON(filepath.Join(dir, indexFile), index); err != nil {
		return err
	}
	settings, err := filepath.Glob(filepath.Join(f.path, "*.json")) // none of a single file
	if err != nil {
		return err
	}
	for _, file := range settings {
		if filepath.Base(file) == indexFile {
			continue
		}
		if err := copyFile(file, filepath.Join(dir, filepath.Base(file))); err != nil {
			return err
		}
	}
	if v.Beside == nil {
		return nil
	}
	return v.Beside(dir)
}

// writePart writes the component of an entry of the index. Entries that are settings, or that have no folder, have none.
func (f *Folder) writePart(name, dir string, weights map[string][]float32) error {
	to, from := filepath.Join(dir, name), filepath.Join(f.path, name)
	if c, ok := f.components[name]; ok {
		return c.write(to, weights, isSingle(f.path))
	}
	if stat, err := os.Stat(from); err != nil || !stat.IsDir() {
		return nil
	}
	return copyFolder(from, to)
}

// classes are libraries and classes of a single file's components, as diffusers and transformers name them; the scheduler's is in its
// configuration.
var classes = map[string][2]string{
	UNet: {"diffusers", "UNet2DConditionModel"}, VAE: {"diffusers", "AutoencoderKL"}, Scheduler: {"diffusers"},
	TextEncoder: {"transformers", "CLIPTextModel"}, Tokenizer: {"transformers", "CLIPTokenizer"},
	TextEncoder2: {"transformers", "CLIPTextModelWithProjection"}, Tokenizer2: {"transformers", "CLIPTokenizer"},
}

// index is what model_index.json says.
func (f *Folder) index() (index map[string]any, err error) {
	if !isSingle(f.path) {
		data, err := os.ReadFile(filepath.Join(f.path, indexFile))
		if err != nil {
			return nil, err
		}
		return index, json.Unmarshal(data, &index)
	}
	index = map[string]any{"_class_name": f.class}
	for name, c := range f.components {
		class := classes[name]
		var config struct {
			Class string `json:"_class_name"`
		}
		if err := json.Unmarshal(c.config, &config); name == Scheduler && err == nil {
			class[1] = config.Class
		}
		index[name] = class
	}
	return index, nil
}

// write writes the component with other values for some weights. Without any it is a copy, unless it has no files of its own.
func (c *Component) write(dir string, weights map[string][]float32, single bool) error {
	switch network := len(c.sources) > 0; {
	case network && (single || len(weights) > 0):
		tensors, err := c.tensors(weights)
		if err != nil {
			return err
		}
		return WriteComponent(dir, c.config, tensors, nil)
	case single && !exists(c.path): // the scheduler's
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		return WriteJSON(filepath.Join(dir, "scheduler_config.json"), c.config)
	}
	return copyFolder(c.path, dir)
}

// tensors are the component's weights, or their other values, by the names of today.
func (c *Component) tensors(weights map[string][]float32) (map[string]safetensors.Tensor, error) {
	tensors := map[string]safetensors.Tensor{}
	for name, s := range c.sources {
		values, other := weights[name]
		if other {
			if !isFloat(s.info.DType) || int64(len(values)*s.info.DType.Size()) != s.info.Length {
				return nil, fmt.Errorf("%s: weight %q: %d values for %s %v", c.path, name, len(values), s.info.DType, s.info.Shape)
			}
			tensors[name] = safetensors.Float(s.info.DType, values, s.info.Shape...)
			continue
		}
		t, err := s.file.Tensor(s.info.Name)
		if err != nil {
			return nil, err
		}
		whole, _ := s.file.Info(s.info.Name)
		tensors[name] = safetensors.Tensor{DType: t.DType, Shape: s.info.Shape, Data: t.Data[s.info.Offset-whole.Offset:][:s.info.Length]}
	}
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		if _, ok := c.sources[name]; !ok {
			return nil, fmt.Errorf("%s: no weight %q", c.path, name)
		}
	}
	return tensors, nil
}

// copyFolder copies files, and what links lead to as files: those of a download cache are links.
func copyFolder(from, to string) error {
	from, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.Mkdir(target, 0o755)
		}
		return copyFile(path, target)
	})
}

func copyFile(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	return target.Sync()
}

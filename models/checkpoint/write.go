package checkpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"likeness/models/safetensors"
)

// WriteComponent writes a network's folder: its weights, then config.json, each file atomically. The weight file has
// the name diffusers expects. meta may be nil.
func WriteComponent(dir string, config any, tensors map[string]safetensors.Tensor, meta map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all := map[string]string{"format": "pt"}
	for k, v := range meta {
		all[k] = v
	}
	if err := safetensors.Write(filepath.Join(dir, stem(dir)+".safetensors"), tensors, all); err != nil {
		return err
	}
	return WriteJSON(filepath.Join(dir, configFile), config)
}

// WriteIndex writes model_index.json: the pipeline class and, for each component, its library and class.
func WriteIndex(dir, class string, components map[string][2]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	index := map[string]any{"_class_name": class}
	for name, c := range components {
		index[name] = c
	}
	return WriteJSON(filepath.Join(dir, indexFile), index)
}

// WriteJSON writes v to path atomically, indented as diffusers does.
func WriteJSON(path string, v any) (err error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	for _, step := range []func() error{
		func() error { _, err := tmp.Write(append(data, '\n')); return err },
		func() error { return tmp.Chmod(0o644) },
		tmp.Sync,
		tmp.Close,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return os.Rename(tmp.Name(), path)
}

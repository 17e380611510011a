package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ModelFile is the file of a model folder that holds what suits the model where the methods' own, which suit Stable Diffusion, do not:
// {"lora": {"steps": 1000, "learning_rate": 0.003}}.
const ModelFile = "tuning_config.json"

// suited is what a model may ask for, of one method. Zeros leave the method's own.
type suited struct {
	Steps        int     `json:"steps"`
	Batch        int     `json:"batch"`
	LearningRate float64 `json:"learning_rate"`
}

// For are the methods as the model at path, a folder or a file, has them: with its ModelFile, where there is one.
func For(path string) ([]Method, error) {
	methods := slices.Clone(Methods)
	file := filepath.Join(path, ModelFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return methods, nil
	}
	if err != nil {
		return nil, err
	}
	var byName map[string]suited
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&byName); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		own := byName[name]
		i := slices.IndexFunc(methods, func(m Method) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s: method %q: known are %s", file, name, strings.Join(Names(Methods), ", "))
		}
		if own.Steps < 0 || own.Batch < 0 || !(own.LearningRate >= 0) {
			return nil, fmt.Errorf("%s: %s: steps, batch and learning_rate must not be negative", file, name)
		}
		methods[i].suit(own)
	}
	return methods, nil
}

func (m *Method) suit(s suited) {
	if s.Steps > 0 {
		m.Steps = s.Steps
	}
	if s.Batch > 0 {
		m.Batch = s.Batch
	}
	if s.LearningRate > 0 {
		m.LearningRate = s.LearningRate
	}
}

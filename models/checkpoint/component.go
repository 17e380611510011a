package checkpoint

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

	"likeness/models/safetensors"
)

const configFile = "config.json"

// Component is one open sub-folder: a network with weights, or a tokenizer or scheduler without.
type Component struct {
	path    string
	config  json.RawMessage
	files   []*safetensors.File
	sources map[string]source

	temporary string // a folder of copies, or empty
}

// source is a weight's place: the open file and the whole tensor, or rows of it, there.
type source struct {
	file *safetensors.File
	info safetensors.Info // Name is the file's
}

// OpenComponent opens the component folder dir. A network, which is a folder with config.json, must have weights; what
// is missing is a *MissingError. Below the path of a single-file checkpoint, dir is the file's component of that name. The
// caller closes the Component.
func OpenComponent(dir string) (*Component, error) {
	if file := filepath.Dir(filepath.Clean(dir)); isSingle(file) {
		return openPart(file, filepath.Base(dir))
	}
	c := &Component{path: dir, sources: map[string]source{}}
	if stat, err := os.Stat(dir); err != nil || !stat.IsDir() {
		return nil, &MissingError{Path: dir, Parts: []string{"the folder"}}
	}
	for _, name := range []string{configFile, "scheduler_config.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !json.Valid(data) {
			return nil, fmt.Errorf("%s: not valid JSON", filepath.Join(dir, name))
		}
		c.config = data
		if name == configFile {
			if err := c.openWeights(); err != nil {
				c.Close()
				return nil, err
			}
		}
		break
	}
	return c, nil
}

func (c *Component) openWeights() error {
	paths, err := weightFiles(c.path)
	if err != nil {
		return err
	}
	var names []string
	for _, path := range paths {
		file, err := safetensors.Open(path)
		if err != nil {
			return err
		}
		c.files = append(c.files, file)
		names = append(names, file.Names()...)
	}
	rename := renamer(names)
	for _, file := range c.files {
		for _, name := range file.Names() {
			current := rename(name)
			info, _ := file.Info(name)
			if err := c.add(current, source{file, info}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Path is the component's folder.
func (c *Component) Path() string { return c.path }

// Config is the component's configuration as it stands in its file, nil if there is none.
func (c *Component) Config() json.RawMessage { return slices.Clone(c.config) }

// Names lists the weights, sorted.
func (c *Component) Names() []string { return slices.Sorted(maps.Keys(c.sources)) }

// Info tells where the named weight lies; ok is false if there is none. Its name is as diffusers spells it today, which may differ from the
// file's.
func (c *Component) Info(name string) (info safetensors.Location, ok bool) {
	s, ok := c.sources[name]
	if !ok {
		return safetensors.Location{}, false
	}
	inFile := s.info
	inFile.Name, inFile.Shape = name, slices.Clone(s.info.Shape)
	return safetensors.Location{Info: inFile, Path: s.file.Path()}, true
}

// Float32 reads the named weight and its shape, converting from float16, bfloat16 or float64.
func (c *Component) Float32(name string) ([]float32, []int, error) {
	s, ok := c.sources[name]
	if !ok {
		return nil, nil, fmt.Errorf("%s: no weight %q", c.path, name)
	}
	t, err := s.file.Tensor(s.info.Name)
	if err != nil {
		return nil, nil, err
	}
	whole, _ := s.file.Info(s.info.Name)
	t.Data = t.Data[s.info.Offset-whole.Offset:][:s.info.Length]
	values, err := t.Float32()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: weight %q: %w", s.file.Path(), name, err)
	}
	return values, slices.Clone(s.info.Shape), nil
}

// Row reads row i of the named weight [rows, width] as Float32 does.
func (c *Component) Row(name string, i int) ([]float32, error) {
	s, ok := c.sources[name]
	if !ok || len(s.info.Shape) != 2 || i < 0 || i >= s.info.Shape[0] {
		return nil, fmt.Errorf("%s: no row %d of a weight %q: it is %v", c.path, i, name, s.info.Shape)
	}
	whole, _ := s.file.Info(s.info.Name)
	row := make([]float32, s.info.Shape[1])
	before := int(s.info.Offset-whole.Offset) / s.info.DType.Size()
	return row, s.file.ReadFloat32From(s.info.Name, before+i*len(row), row)
}

// Close releases the weight files.
func (c *Component) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	if c.temporary != "" {
		errs = append(errs, os.RemoveAll(c.temporary))
	}
	return errors.Join(errs...)
}

// Weight is a weight that an architecture reads. A dimension is never symbolic.
type Weight struct {
	Name  string
	Shape []int
}

// MismatchError lists every difference between a component's weights and the ones its architecture reads.
type MismatchError struct {
	Path       string
	Missing    []string // "name [shape]"
	Unexpected []string // "name [shape]"
	Wrong      []string // "name: is F32 [shape], needs [shape]"
}

func (e *MismatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: weights do not fit the configuration", e.Path)
	for _, part := range []struct {
		label string
		names []string
	}{{"missing", e.Missing}, {"unexpected", e.Unexpected}, {"wrong", e.Wrong}} {
		if len(part.names) > 0 {
			fmt.Fprintf(&b, "\n%d %s:\n\t%s", len(part.names), part.label, strings.Join(part.names, "\n\t"))
		}
	}
	return b.String()
}

// positionIDs ends the name of a buffer of CLIP's that old files carry and nobody reads: it is no weight.
const positionIDs = "embeddings.position_ids"

// Check compares the weights with a manifest, whole, without reading one: it returns nil or a *MismatchError.
func (c *Component) Check(manifest []Weight) error {
	e := &MismatchError{Path: c.path}
	wanted := map[string]bool{}
	for _, w := range manifest {
		if wanted[w.Name] {
			continue
		}
		wanted[w.Name] = true
		info, ok := c.Info(w.Name)
		switch {
		case !ok:
			e.Missing = append(e.Missing, fmt.Sprintf("%s %v", w.Name, w.Shape))
		case !slices.Equal(info.Shape, w.Shape) || !isFloat(info.DType):
			e.Wrong = append(e.Wrong, fmt.Sprintf("%s: is %s %v, needs floats %v", w.Name, info.DType, info.Shape, w.Shape))
		}
	}
	for _, name := range c.Names() {
		if !wanted[name] {
			info, _ := c.Info(name)
			e.Unexpected = append(e.Unexpected, fmt.Sprintf("%s %v", name, info.Shape))
		}
	}
	if len(e.Missing)+len(e.Unexpected)+len(e.Wrong) == 0 {
		return nil
	}
	slices.Sort(e.Missing)
	slices.Sort(e.Wrong)
	return e
}

func isFloat(d safetensors.DType) bool {
	switch d {
	case safetensors.TypeF64, safetensors.TypeF32, safetensors.TypeF16, safetensors.TypeBF16:
		return true
	}
	return false
}

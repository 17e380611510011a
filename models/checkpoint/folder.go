// Package checkpoint opens, checks and writes diffusers model folders: model_index.json and one sub-folder a component,
// each with its configuration and safetensors weights. A single-file checkpoint in LDM names opens as the folder that it would
// convert to, without being converted. Opening reads headers only; weights are read when asked for, or
// by others at the file positions given here.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const indexFile = "model_index.json"

// Components every Stable Diffusion folder has.
const (
	UNet        = "unet"
	VAE         = "vae"
	TextEncoder = "text_encoder"
	Tokenizer   = "tokenizer"
	Scheduler   = "scheduler"
)

// Components of SDXL folders, which must be there where model_index.json lists them.
const (
	TextEncoder2 = "text_encoder_2"
	Tokenizer2   = "tokenizer_2"
)

// required holds, for each component that a folder must have, the file that shows it is there.
var required = []struct {
	name, file string
	listed     bool // required only where model_index.json lists it
}{
	{Scheduler, "scheduler_config.json", false},
	{TextEncoder, configFile, false},
	{TextEncoder2, configFile, true},
	{Tokenizer, "vocab.json", false},
	{Tokenizer2, "vocab.json", true},
	{UNet, configFile, false},
	{VAE, configFile, false},
}

// Folder is an open model folder.
type Folder struct {
	path       string
	class      string
	components map[string]*Component
}

// MissingError names everything a model folder lacks, at once.
type MissingError struct {
	Path  string
	Parts []string // such as "unet/config.json"
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("model %s lacks %s", e.Path, strings.Join(e.Parts, ", "))
}

// Open reads model_index.json, and the configurations and weight headers of unet, vae, text_encoder, tokenizer and
// scheduler, which must all be there, of a listed text_encoder_2 and tokenizer_2, which must be there too, and of every
// other listed network that is (such as encoder). The caller closes the Folder. Missing parts are a *MissingError.
//
// dir may be a single-file checkpoint of Stable Diffusion 1, 2 or XL, with the tokenizer's folder beside it; a scheduler folder beside
// it comes before the schedule of its kind. One of another kind is a *KindError.
func Open(dir string) (*Folder, error) {
	if isSingle(dir) {
		return openSingle(dir)
	}
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{path: dir, class: index.class, components: map[string]*Component{}}
	missing := &MissingError{Path: dir}
	var errs []error
	for _, r := range required {
		if r.listed && !slices.Contains(index.components, r.name) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, r.name, r.file)); err != nil {
			missing.Parts = append(missing.Parts, r.name+"/"+r.file)
		}
	}
	for _, name := range index.components {
		c, err := OpenComponent(filepath.Join(dir, name))
		var lacks *MissingError
		switch {
		case errors.As(err, &lacks):
			for _, part := range lacks.Parts {
				if part = name + "/" + part; isRequired(name) && !slices.Contains(missing.Parts, part) {
					missing.Parts = append(missing.Parts, part)
				}
			}
		case err != nil:
			errs = append(errs, err)
		default:
			f.components[name] = c
		}
	}
	for _, r := range required {
		if !r.listed && !slices.Contains(index.components, r.name) {
			missing.Parts = append(missing.Parts, fmt.Sprintf("%q in %s", r.name, indexFile))
		}
	}
	if len(missing.Parts) > 0 {
		errs = append([]error{missing}, errs...)
	}
	if len(errs) > 0 {
		f.Close()
		return nil, errors.Join(errs...)
	}
	return f, nil
}

func isRequired(name string) bool {
	for _, r := range required {
		if r.name == name {
			return true
		}
	}
	return false
}

// modelIndex is what is read of model_index.json.
type modelIndex struct {
	class      string
	components []string // sorted; entries [null, null] are left out
}

func readIndex(dir string) (modelIndex, error) {
	var index modelIndex
	path := filepath.Join(dir, indexFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return index, fmt.Errorf("model %s: %w", dir, fs.ErrNotExist)
		}
		return index, &MissingError{Path: dir, Parts: []string{indexFile}}
	}
	if err != nil {
		return index, err
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return index, fmt.Errorf("%s: %w", path, err)
	}
	for name, raw := range entries {
		if name == "_class_name" {
			if err := json.Unmarshal(raw, &index.class); err != nil {
				return index, fmt.Errorf("%s: %s: %w", path, name, err)
			}
		}
		var pair []*string
		if strings.HasPrefix(name, "_") || json.Unmarshal(raw, &pair) != nil || len(pair) != 2 || pair[1] == nil {
			continue // a setting, or a component the pipeline goes without
		}
		if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			return index, fmt.Errorf("%s: component name %q is not a folder name", path, name)
		}
		index.components = append(index.components, name)
	}
	slices.Sort(index.components)
	return index, nil
}

// Path is the folder, or the single file, given to Open.
func (f *Folder) Path() string { return f.path }

// Class is the pipeline class that model_index.json names, such as StableDiffusionPipeline.
func (f *Folder) Class() string { return f.class }

// Has tells whether the folder has the named component.
func (f *Folder) Has(name string) bool { return f.components[name] != nil }

// Component gives an open component; the Folder closes it. A tokenizer's files lie at its Path.
func (f *Folder) Component(name string) (*Component, error) {
	if c := f.components[name]; c != nil {
		return c, nil
	}
	return nil, &MissingError{Path: f.path, Parts: []string{name}}
}

// Close closes every component.
func (f *Folder) Close() error {
	var errs []error
	for _, c := range f.components {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

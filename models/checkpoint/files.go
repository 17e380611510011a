package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Weight files as diffusers and transformers name them: the stem, perhaps a variant, perhaps shards with an index.
const (
	diffusersStem    = "diffusion_pytorch_model"
	transformersStem = "model"
)

// variants are the precisions that diffusers keeps beside each other, in the order of preference.
var variants = []string{"", ".fp16", ".bf16"}

// weightFiles finds the weight files of a component: of the first variant that is whole, since a download of one variant brings the
// index of another along without its shards.
func weightFiles(dir string) ([]string, error) {
	var incomplete *MissingError
	for _, variant := range variants {
		for _, stem := range []string{diffusersStem, transformersStem} {
			single := filepath.Join(dir, stem+variant+".safetensors")
			if exists(single) {
				return []string{single}, nil
			}
			for _, index := range []string{
				stem + variant + ".safetensors.index.json",
				stem + ".safetensors.index" + variant + ".json",
			} {
				path := filepath.Join(dir, index)
				if !exists(path) {
					continue
				}
				paths, err := shards(path)
				var lacks *MissingError
				if !errors.As(err, &lacks) {
					return paths, err
				}
				if incomplete == nil {
					incomplete = lacks
				}
			}
		}
	}
	if incomplete != nil {
		return nil, incomplete
	}
	part := stem(dir) + ".safetensors"
	for _, s := range []string{diffusersStem, "pytorch_model"} {
		if exists(filepath.Join(dir, s+".bin")) {
			part += " (there is only " + s + ".bin: convert it to safetensors)"
		}
	}
	return nil, &MissingError{Path: dir, Parts: []string{part}}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// stem is the weight file's name for a component folder: transformers' for encoders, diffusers' for the others.
func stem(dir string) string {
	if strings.HasSuffix(strings.TrimSuffix(filepath.Base(filepath.Clean(dir)), "_2"), "encoder") {
		return transformersStem
	}
	return diffusersStem
}

// shards lists the files of a sharded checkpoint. Its files' own headers say which weights they hold.
func shards(index string) ([]string, error) {
	data, err := os.ReadFile(index)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &parsed); err != nil {
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	var paths, missing []string
	for _, file := range parsed.WeightMap {
		if !filepath.IsLocal(file) || filepath.Base(file) != file {
			return nil, fmt.Errorf("%s: shard %q is not a file name", index, file)
		}
		path := filepath.Join(filepath.Dir(index), file)
		if slices.Contains(paths, path) || slices.Contains(missing, file) {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, file)
			continue
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	slices.Sort(missing)
	switch {
	case len(missing) > 0:
		return nil, &MissingError{Path: filepath.Dir(index), Parts: missing}
	case len(paths) == 0:
		return nil, fmt.Errorf("%s: weight_map is empty", index)
	}
	return paths, nil
}

// oldAttention matches names that VAE attention had before diffusers 0.15.
var oldAttention = regexp.MustCompile(`^(.*attentions\.\d+\.)(query|key|value|proj_attn)(\.weight|\.bias)$`)

var attentionNames = map[string]string{"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

// renamer gives the function from the names in a component's files to today's names: old VAE attention is renamed, and CLIP text
// weights that lack it, as transformers 5 writes them, get the prefix of published checkpoints.
func renamer(names []string) func(string) string {
	bareText := slices.Contains(names, "embeddings.token_embedding.weight")
	return func(name string) string {
		if m := oldAttention.FindStringSubmatch(name); m != nil {
			return m[1] + attentionNames[m[2]] + m[3]
		}
		if bareText && name != "text_projection.weight" {
			return "text_model." + name
		}
		return name
	}
}

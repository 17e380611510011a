package exchange

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// paramsKey is the name of sd-scripts and of A1111's conversions, which name the word by the file.
const paramsKey = "emb_params"

// bundle begins the names of a word's tensors in the file of a LoRA.
const bundle = "bundle_emb."

// wordKeys name a word's tensors where the base model has two text encoders, as SDXL: those of the first and of the second.
var wordKeys = []string{"clip_l", "clip_g"}

// perLayer matches the 16 tensors of a word with a vector for each cross-attention layer (Voynov et al. 2023), as sd-scripts writes them.
var perLayer = regexp.MustCompile(`^(IN|OUT)\d\d$|^MID$`)

// readEmbedding reads a file of one word.
func (r *reader) readEmbedding() {
	keys := r.file.Names()
	for _, key := range keys {
		switch {
		case slices.Contains(wordKeys, key) && len(r.base.words) == 1:
			r.problem(key, "this word is for the two text encoders of SDXL, and the base model has one")
		case perLayer.MatchString(key):
			r.problem(key, "the word has a vector for each layer (XTI), which is not read: training tune --method extended makes such a word")
		}
	}
	switch {
	case len(r.problems) > 0:
	case len(keys) == 0:
		r.problem("", "the file holds no tensors")
	case len(r.base.words) == len(wordKeys):
		r.readPair(keys)
	case len(keys) > 1:
		for _, key := range keys {
			r.problem(key, "this is neither a LoRA nor one word: keep one word in a file")
		}
	default:
		r.readWord(keys)
		if keys[0] != paramsKey {
			r.adapter.Word = wordOf(keys[0])
		}
	}
}

// readPair reads a word for two text encoders, which the file names.
func (r *reader) readPair(keys []string) {
	for _, key := range keys {
		if !slices.Contains(wordKeys, key) {
			r.problem(key, "a word for SDXL is the two tensors clip_l and clip_g: it was made for another base model")
		}
	}
	if len(keys) < len(wordKeys) {
		r.problem(keys[0], "the word lacks its other half, clip_l or clip_g: the file is not whole")
	}
	if len(r.problems) == 0 {
		r.readWord(wordKeys)
	}
}

// readWord reads a word of a tensor [n, width] for each of the base model's text encoders, and puts them side by side.
func (r *reader) readWord(keys []string) {
	n := 0
	var columns [][]float32
	for i, key := range keys {
		values, ok := r.vectors(key, r.base.words[i].width)
		if !ok {
			return
		}
		rows := len(values) / r.base.words[i].width
		if i > 0 && rows != n {
			r.problem(key, "the word has %d vectors here and %d in %s: the file is not whole", rows, n, keys[0])
			return
		}
		n, columns = rows, append(columns, values)
	}
	for row := range n {
		for i, values := range columns {
			width := r.base.words[i].width
			r.adapter.Embeddings = append(r.adapter.Embeddings, values[row*width:][:width]...)
		}
	}
	r.adapter.Class = cmp.Or(r.file.Metadata()[metaClass], DefaultClass)
}

// vectors reads a word's vectors for one text encoder, or reports what is wrong with them.
func (r *reader) vectors(key string, width int) (values []float32, ok bool) {
	values, shape, ok := r.values(key)
	if !ok {
		return nil, false
	}
	if len(shape) == 0 || len(shape) > 2 || len(values) == 0 {
		r.problem(key, "the shape %v is no word's: vectors are [n, %d]", shape, width)
		return nil, false
	}
	if w := shape[len(shape)-1]; w != width {
		r.problem(key, "the vectors have width %d, the base model's words %d: it was made for another base model", w, width)
		return nil, false
	}
	if n := len(values) / width; n > maxVectors {
		r.problem(key, "the word has %d vectors, more than %d", n, maxVectors)
		return nil, false
	}
	return values, true
}

// readBundled reads the word that is in the file of a LoRA, by its tensors' keys: bundle_emb.<word>.string_to_param.* or
// bundle_emb.<word>.clip_l, and of SDXL bundle_emb.<word>.clip_g as well.
func (r *reader) readBundled(keys []string) {
	if len(keys) == 0 {
		return
	}
	parts, before := make([]string, len(r.base.words)), len(r.problems)
	for _, key := range keys {
		word, kind, _ := strings.Cut(strings.TrimPrefix(key, bundle), ".")
		at := slices.Index(wordKeys[:len(parts)], kind)
		if kind == "string_to_param.*" && len(parts) == 1 {
			at = 0
		}
		switch first := strings.Split(strings.TrimPrefix(keys[0], bundle), ".")[0]; {
		case at < 0:
			r.problem(key, "no bundled word for this base model has a tensor of this name")
		case word != first || parts[at] != "":
			r.problem(key, "the file has a second word: keep one word in a file")
		default:
			parts[at] = key
			r.adapter.Word = wordOf(word)
		}
	}
	if i := slices.Index(parts, ""); i >= 0 && len(r.problems) == before {
		r.problem(keys[0], "the word lacks its other half, %s: the file is not whole", wordKeys[i])
	}
	if len(r.problems) == before {
		r.readWord(parts)
	}
}

package exchange

import (
	"cmp"
	"regexp"
	"strings"
)

// paramsKey is the name of sd-scripts and of A1111's conversions, which name the word by the file.
const paramsKey = "emb_params"

// perLayer matches the 16 tensors of a word with a vector for each cross-attention layer (Voynov et al. 2023), as sd-scripts writes them.
var perLayer = regexp.MustCompile(`^(IN|OUT)\d\d$|^MID$`)

// readEmbedding reads a file of one word.
func (r *reader) readEmbedding() {
	keys := r.file.Names()
	for _, key := range keys {
		switch {
		case key == "clip_l" || key == "clip_g":
			r.problem(key, "words for the two text encoders of SDXL are not served")
		case perLayer.MatchString(key):
			r.problem(key, "the word has a vector for each layer (XTI), which is not served")
		}
	}
	switch {
	case len(r.problems) > 0:
	case len(keys) == 0:
		r.problem("", "the file holds no tensors")
	case len(keys) > 1:
		for _, key := range keys {
			r.problem(key, "this is neither a LoRA nor one word: keep one word in a file")
		}
	default:
		r.readWord(keys[0])
	}
}

func (r *reader) readWord(key string) {
	values, shape, ok := r.values(key)
	if !ok {
		return
	}
	if len(shape) == 0 || len(shape) > 2 || len(values) == 0 {
		r.problem(key, "the shape %v is no word's: vectors are [n, %d]", shape, r.base.TextWidth)
		return
	}
	if w := shape[len(shape)-1]; w != r.base.TextWidth {
		r.problem(key, "the vectors have width %d, the base model's words %d: it was made for another base model", w, r.base.TextWidth)
		return
	}
	if n := len(values) / r.base.TextWidth; n > maxVectors {
		r.problem(key, "the word has %d vectors, more than %d", n, maxVectors)
		return
	}
	if key != paramsKey {
		r.adapter.Word = wordOf(key)
	}
	r.adapter.Class = cmp.Or(r.file.Metadata()[metaClass], DefaultClass)
	r.adapter.Embeddings = values
}

// readBundled reads a word that is in the file of a LoRA: bundle_emb.<word>.string_to_param.* or bundle_emb.<word>.clip_l.
func (r *reader) readBundled(key, rest string) {
	word, kind, _ := strings.Cut(rest, ".")
	switch {
	case kind != "string_to_param.*" && kind != "clip_l":
		r.problem(key, "no bundled word has a tensor of this name")
	case r.adapter.Embeddings != nil:
		r.problem(key, "the file has a second word: keep one word in a file")
	default:
		r.readWord(key)
		r.adapter.Word = wordOf(word)
	}
}

// Package exchange reads and writes the files in which other programs keep a subject or a style: LoRA in kohya's and in diffusers'
// names, textual-inversion embeddings, and merged weights. What a file holds is an [Adapter], in no format's terms; it becomes a
// concept, and a concept becomes one.
package exchange

import (
	"fmt"
	"slices"
	"strings"

	"likeness/encoder/concept"
)

// Format is a published file format.
type Format string

// The formats.
const (
	Kohya     Format = "kohya"     // LoRA in the names of sd-scripts: lora_unet_…, lora_te_…, of SDXL lora_te1_… and lora_te2_…
	Diffusers Format = "diffusers" // LoRA in the names of diffusers and PEFT: unet.…, text_encoder.…, text_encoder_2.…
	Embedding Format = "embedding" // a word: the vectors of textual inversion, of SDXL clip_l and clip_g
	Merged    Format = "merged"    // a UNet's weights with the changes added; written only
)

// Adapter is what one file holds.
type Adapter struct {
	Format     Format    // of the file it was read from; empty for a concept's
	Word       string    // its placeholder word; without Embeddings, the file's name
	Class      string    // the noun that the word is an instance of; empty without Embeddings
	Embeddings []float32 // the word's vectors themselves, [n, Base.TextWidth]; nil: it has no word of its own
	LoRA       concept.LoRA
}

// Describe says in one line what it holds.
func (a *Adapter) Describe(textWidth int) string {
	var parts []string
	for _, n := range networks {
		if deltas := a.LoRA[n.component]; len(deltas) > 0 {
			parts = append(parts, fmt.Sprintf("%s on %s of the %s", ranks(deltas), count(len(deltas), "layer"), n.name))
		}
	}
	if len(a.Embeddings) > 0 {
		parts = append(parts, fmt.Sprintf("the word <%s> of %s", a.Word, count(len(a.Embeddings)/textWidth, "vector")))
	}
	name := map[Format]string{"": "concept", Kohya: "LoRA in kohya's names", Diffusers: "LoRA in diffusers' names", Embedding: "textual-inversion embedding"}
	return name[a.Format] + ": " + strings.Join(parts, ", ")
}

// ranks is "rank 4" or "ranks 2 to 6".
func ranks(deltas map[string]concept.Delta) string {
	var all []int
	for _, d := range deltas {
		all = append(all, d.Rank)
	}
	if low, high := slices.Min(all), slices.Max(all); low < high {
		return fmt.Sprintf("ranks %d to %d", low, high)
	}
	return fmt.Sprintf("rank %d", all[0])
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	Key    string // the tensor's name; empty: the file as a whole
	Reason string
}

// Error lists everything that is wrong with a file.
type Error struct {
	Path     string
	Problems []Problem
}

// Error groups the keys by reason.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Path + ": ")
	keys := map[string][]string{}
	var reasons []string
	for _, p := range e.Problems {
		if _, known := keys[p.Reason]; !known {
			reasons = append(reasons, p.Reason)
			keys[p.Reason] = nil
		}
		if p.Key != "" {
			keys[p.Reason] = append(keys[p.Reason], p.Key)
		}
	}
	for i, reason := range reasons {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(reason)
		switch names := keys[reason]; len(names) {
		case 0:
		case 1:
			b.WriteString(": " + names[0])
		default:
			fmt.Fprintf(&b, ", in %d places:\n\t%s", len(names), strings.Join(names, "\n\t"))
		}
	}
	return b.String()
}

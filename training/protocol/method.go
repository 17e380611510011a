package protocol

import (
	"slices"
	"strings"
)

// Method is a way to learn a concept: what commands, server and page call it, and what it takes where nothing else is asked for.
type Method struct {
	Name         string
	Title        string // for people
	Help         string // a line, lower-case
	Steps        int
	Batch        int
	Rank         int // of the changes of layers that a concept of it holds; 0: those of the model's encoder, or none
	Vectors      int // of its word; 0: those of the model's encoder, or none
	LearningRate float64
	NeedsEncoder bool // it starts from what the model's encoder says
	TextEncoder  bool // it changes the text encoder too, where it is asked to
	MovesWeights bool // it moves weights, of whose changes a concept holds a part: changes of the rank
}

// The methods. How they learn is package tune's.
var (
	Quick = Method{Name: "quick", Title: "Quick, from the encoder",
		Help:  "starts from what the encoder says and moves its coefficients for some steps; ends when it no longer gains",
		Steps: 20, LearningRate: 0.05, Batch: 2, NeedsEncoder: true}
	LoRA = Method{Name: "lora", Title: "LoRA",
		Help:  "learns low-rank changes of the UNet's layers, from nothing; the prompt's class noun stands for the subject",
		Steps: 500, LearningRate: 1e-4, Batch: 1, Rank: 4, TextEncoder: true}
	TextualInversion = Method{Name: "textual-inversion", Title: "Textual inversion",
		Help:  "learns the vectors of a word alone, which starts as the init noun",
		Steps: 1000, LearningRate: 5e-3, Batch: 1, Vectors: 1}
	Extended = Method{Name: "extended", Title: "Extended textual inversion",
		Help:  "learns a word for each cross-attention of the UNet (P+), all of which start as the init noun",
		Steps: 500, LearningRate: 5e-3, Batch: 8, Vectors: 1}
	Perfusion = Method{Name: "perfusion", Title: "Perfusion",
		Help:  "learns a word and what cross-attention's values make of it, behind a gate, with the keys of the class noun; needs training covariance",
		Steps: 400, LearningRate: 0.03, Batch: 8, Vectors: 1}
	CustomDiffusion = Method{Name: "custom-diffusion", Title: "Custom Diffusion",
		Help:  "learns a word and all keys and values of cross-attention, beside pictures of the class; kept as changes of the rank",
		Steps: 250, LearningRate: 1e-5, Batch: 2, Rank: 16, Vectors: 1, MovesWeights: true}
	DreamBooth = Method{Name: "dreambooth", Title: "DreamBooth",
		Help:  "learns all weights of the UNet, beside pictures of the class; kept as changes of the rank of the layers that a concept can hold",
		Steps: 400, LearningRate: 5e-6, Batch: 1, Rank: 32, Vectors: 2, TextEncoder: true, MovesWeights: true}
	SVDiff = Method{Name: "svdiff", Title: "SVDiff",
		Help:  "learns shifts of the singular values of all weights of the UNet, beside pictures of the class; kept as dreambooth's are",
		Steps: 500, LearningRate: 1e-3, Batch: 1, Rank: 32, Vectors: 2, MovesWeights: true}
)

// Methods are all there are, in the order in which they are shown.
var Methods = []Method{Quick, LoRA, TextualInversion, Extended, Perfusion, CustomDiffusion, DreamBooth, SVDiff}

// Names lists methods' names.
func Names(methods []Method) []string {
	var names []string
	for _, m := range methods {
		names = append(names, m.Name)
	}
	return names
}

// Find returns the method of a name.
func Find(name string) (m Method, ok bool) {
	i := slices.IndexFunc(Methods, func(m Method) bool { return m.Name == name })
	if i < 0 {
		return m, false
	}
	return Methods[i], true
}

// Able names the methods that do something, for people: "lora and dreambooth".
func Able(does func(Method) bool) string {
	able := Names(slices.DeleteFunc(slices.Clone(Methods), func(m Method) bool { return !does(m) }))
	if len(able) < 2 {
		return strings.Join(able, "")
	}
	last := len(able) - 1
	return strings.Join(able[:last], ", ") + " and " + able[last]
}

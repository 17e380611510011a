package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"likeness/models/op"
	"likeness/models/scheduler"
)

// Bounds on requests.
const (
	maxSteps    = 200
	maxGuidance = 50
	maxScale    = 10
	maxEnlarged = 2 // width and height over the side the model was trained on
)

// Defaults stand in for a request's zero fields. A model folder sets them in generation_config.json.
type Defaults struct {
	Steps          int     `json:"num_inference_steps"`
	GuidanceScale  float64 `json:"guidance_scale"`
	Scheduler      string  `json:"scheduler"`       // one of scheduler.Names; empty: the folder's own class
	NegativePrompt string  `json:"negative_prompt"` // what guidance leads away from
	Width          int     `json:"width"`           // 0: the side the model was trained on
	Height         int     `json:"height"`
}

// readDefaults reads dir/generation_config.json over the values that suit Stable Diffusion.
func readDefaults(dir string) (Defaults, error) {
	d := Defaults{Steps: 25, GuidanceScale: 7.5}
	data, err := readSettings(dir, "generation_config.json")
	if data == nil && err == nil {
		return d, nil
	}
	if err == nil {
		dec := json.NewDecoder(strings.NewReader(string(data)))
		dec.DisallowUnknownFields()
		err = dec.Decode(&d)
	}
	if err != nil {
		return d, fmt.Errorf("%s: %w", filepath.Join(dir, "generation_config.json"), err)
	}
	return d, nil
}

// check fills in the size and holds that a request of zero fields is valid.
func (d *Defaults) check(m *Model) error {
	width, height := m.Size()
	if d.Width == 0 {
		d.Width = width
	}
	if d.Height == 0 {
		d.Height = height
	}
	r := Request{}
	if err := r.complete(m); err != nil {
		return fmt.Errorf("generation_config.json: %w", err)
	}
	return nil
}

// Subject is a concept as one request uses it. Its word, in angle brackets, is in the request's prompt; one without word embeddings need
// not be named, and where it is, its class noun, or nothing, stands for it.
type Subject struct {
	Word           string    // without the brackets; it counts as strongly as the text around it
	Class          string    // the noun it is an instance of; may be empty without word embeddings
	WordEmbeddings []float32 // [WordLayers, n, WordWidth] residuals to the class word's embedding, of each text encoder in turn; or nil
	WordLayers     int       // 0 and 1: one word; or UNet.TextLayers, a word for each cross-attention
	Offsets        []float32 // of the UNet, packed by Layout, or nil; several vectors end to end are summed
	// Layout is that of Offsets; nil: the model's own, which otherwise must have all of its layers.
	Layout      *op.Layout
	TextOffsets map[string]Packed // offsets of the text encoders, by component
	Edit        *Edit             // gated changes of cross-attention, or nil; Scale is their strength
	ImageTokens []float32         // [n·ImagePrompts.Tokens, cross_attention_dim] of n pictures, 1 to 4, or nil; Scale is the adapter's scale
	Everywhere  bool              // offsets act on the negative prompt too, as a published LoRA does; a concept acts on the prompt alone
	Scale       float64           // strength: 1 as learned, 0 none
}

// Packed are offsets of a network.
type Packed struct {
	Layout *op.Layout // nil: the model's own
	Values []float32  // vectors of the layout end to end, which are summed
}

// Request asks for one picture. Both prompts may weigh their words, as tokenizer.ParseWeights reads them, and be longer than the text
// encoder's context: then it reads them in chunks, whose states follow each other. Zero Steps, GuidanceScale, Width, Height,
// NegativePrompt and Scheduler take the model's defaults.
type Request struct {
	Prompt          string
	NegativePrompt  string // one of blanks is the empty text, also where no negative prompt is something else, as in SDXL
	Subjects        []Subject
	ClipSkip        int     // how many of the text encoder's last layers the prompt's states pass over, as diffusers counts; the whole model reads 0
	Seed            uint64  // the noise is that of torch.Generator("cpu").manual_seed(Seed)
	Steps           int     // of denoising, up to 200
	GuidanceScale   float64 // of classifier-free guidance (Ho and Salimans 2022); 1 and less: none, and half the work
	GuidanceRescale float64 // how far guidance's effect on the contrast is taken back: 0 (not) to 1
	// GateBias and GateTemperature are those of subjects' Edits: a likeness over the bias opens the gate, the more abruptly the smaller the
	// temperature. Both are over 0 and up to 1; zeros are the constants of these names.
	GateBias, GateTemperature float64
	// GuidanceStart and GuidanceEnd are the part of the steps that guidance acts on, as fractions of all; zeros are 0 and 1. A step without costs half, and in
	// the first ones guidance does harm (Kynkäänniemi et al. 2024, Applying Guidance in a Limited Interval).
	GuidanceStart, GuidanceEnd float64
	// CacheInterval, over 1, has the whole UNet run at every so manieth step only; between them its outermost layers work on what the depth
	// gave last (Ma et al. 2024, DeepCache). 0 is 1: every step is whole, and the picture exact.
	CacheInterval int
	Width, Height int    // pixels, multiples of Model.Multiple
	Scheduler     string // one of scheduler.Names
	Owner         string // who asks; turns go round owners

	// Image is a picture to start from, of any size; nil: noise alone. Where it has transparent pixels and there is no Mask, it is its own
	// mask. Without Width and Height, the picture is of its size, or of one near it that the model can draw. An inpainting model without
	// mask repaints everything, and without image starts from noise as any other.
	Image image.Image
	// Mask, of Image's size, says what of it is repainted: where the mask has transparent pixels these, otherwise its white ones; transparent pixels of Image are
	// too. All others stay in the Result as they are in Image. A concept named in the prompt is painted into the place.
	Mask     image.Image
	Strength float64 // share of the steps that are taken, from an image with as much noise: 0 to 1; 0: 0.8, and with a mask 1, as in diffusers

	PreviewEvery int // steps between previews; 0: none
}

// InvalidError is a request that cannot be met: the caller's fault.
type InvalidError struct {
	Field  string // as in Request, in JSON's spelling
	Reason string
	Err    error // the cause, or nil; a *tokenizer.ErrTooLong for a prompt whose subject does not fit
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Reason }

// Unwrap returns the cause.
func (e *InvalidError) Unwrap() error { return e.Err }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Event tells of a finished step.
type Event struct {
	Step, Steps int         // Step counts from 1
	Preview     image.Image // the picture as the network expects it now; nil on most steps
}

// Timings are where the time of one picture went.
type Timings struct {
	Text    time.Duration // prompt to text states, and a given picture to latents
	Denoise time.Duration // all steps, waiting for a turn included
	Decode  time.Duration // latents to picture
}

// Result is a finished picture.
type Result struct {
	Image     *image.NRGBA
	Latents   op.Array // [C, h, w], scaled as the UNet sees them
	Truncated int      // tokens of the prompt beyond the chunks there are (8 of the text encoder's context); no concept's word is among them
	Steps     StepCounts
	Timings   Timings
}

// complete fills in the defaults and checks every field but the prompt.
func (r *Request) complete(m *Model) error {
	d := m.Defaults
	fill(&r.Steps, d.Steps)
	fill(&r.GuidanceScale, d.GuidanceScale)
	if err := r.completeImage(m); err != nil {
		return err
	}
	fill(&r.Width, d.Width)
	fill(&r.Height, d.Height)
	fill(&r.NegativePrompt, d.NegativePrompt)
	fill(&r.Scheduler, d.Scheduler)
	fill(&r.GateBias, GateBias)
	fill(&r.GateTemperature, GateTemperature)
	multiple, most := m.Multiple(), maxEnlarged*max(m.Size())
	if err := r.completeShortcuts(); err != nil {
		return err
	}
	for _, side := range []struct {
		field string
		value int
	}{{"width", r.Width}, {"height", r.Height}} {
		if side.value < multiple || side.value > most || side.value%multiple != 0 {
			return invalid(side.field, "%d: must be a multiple of %d, at most %d", side.value, multiple, most)
		}
	}
	steps := min(maxSteps, m.Scheduler.NumTrainTimesteps)
	switch g := r.GuidanceScale; {
	case r.Steps < 1 || r.Steps > steps:
		return invalid("steps", "%d: must be from 1 to %d", r.Steps, steps)
	case !(g >= 0 && g <= maxGuidance):
		return invalid("guidance_scale", "%g: must be from 0 to %d", g, maxGuidance)
	case r.Scheduler != "" && !slices.Contains(scheduler.Names(), r.Scheduler):
		return invalid("scheduler", "%q: known are %s", r.Scheduler, strings.Join(scheduler.Names(), ", "))
	case !(r.GuidanceRescale >= 0 && r.GuidanceRescale <= 1):
		return invalid("guidance_rescale", "%g: must be from 0 to 1", r.GuidanceRescale)
	case !(r.GateBias > 0 && r.GateBias <= 1):
		return invalid("gate_bias", "%g: must be over 0 and at most 1", r.GateBias)
	case !(r.GateTemperature > 0 && r.GateTemperature <= 1):
		return invalid("gate_temperature", "%g: must be over 0 and at most 1", r.GateTemperature)
	case r.ClipSkip < 0 || r.ClipSkip > m.maxClipSkip():
		return invalid("clip_skip", "%d: must be from 0 to %d", r.ClipSkip, m.maxClipSkip())
	case r.PreviewEvery < 0:
		return invalid("preview_every", "%d: must not be negative", r.PreviewEvery)
	}
	r.Subjects = slices.Clone(r.Subjects)
	for i := range r.Subjects {
		if err := r.Subjects[i].complete(m); err != nil {
			return err
		}
	}
	return nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// complete checks the subject and packs its offsets by the model's layouts.
func (s *Subject) complete(m *Model) error {
	width := m.WordWidth()
	switch n := len(s.WordEmbeddings); {
	case !(math.Abs(s.Scale) <= maxScale):
		return invalid("subjects", "<%s>: scale %g: must be from -%d to %d", s.Word, s.Scale, maxScale, maxScale)
	case n == 0 && len(s.Offsets) == 0 && len(s.TextOffsets) == 0 && len(s.ImageTokens) == 0 && s.Edit == nil:
		return invalid("subjects", "<%s>: has neither word embeddings nor offsets nor image tokens", s.Word)
	case s.WordLayers > 1 && s.WordLayers != m.UNet.TextLayers():
		return invalid("subjects", "<%s>: words for %d cross-attentions, this model has %d: it was made for another model", s.Word, s.WordLayers, m.UNet.TextLayers())
	case s.WordLayers > 1 && m.UNet.PooledWidth() > 0:
		return invalid("subjects", "<%s>: words that differ between cross-attentions, which a model of pooled text does not read", s.Word)
	case s.WordLayers > 1 && !m.UNet.LayeredText:
		return invalid("subjects", "<%s>: words that differ between cross-attentions, which this model was not opened with", s.Word)
	case n%(max(s.WordLayers, 1)*width) != 0:
		return invalid("subjects", "<%s>: %d numbers are no word embeddings of width %d: it was made for another model", s.Word, n, width)
	case !op.Finite(s.WordEmbeddings):
		return invalid("subjects", "<%s>: holds values that are not numbers", s.Word)
	}
	if err := s.checkImages(m); err != nil {
		return invalid("subjects", "<%s>: %v", s.Word, err)
	}
	if err := s.Edit.check(m); err != nil {
		return invalid("subjects", "<%s>: %v", s.Word, err)
	}
	unet, err := pack(m.Layout, Packed{s.Layout, s.Offsets})
	if err != nil {
		return invalid("subjects", "<%s>: it was made for another model: %v", s.Word, err)
	}
	s.Offsets, s.Layout = unet.Values, nil
	s.TextOffsets = maps.Clone(s.TextOffsets)
	for name, offsets := range s.TextOffsets {
		if s.TextOffsets[name], err = pack(m.TextLayouts[name], offsets); err != nil {
			return invalid("subjects", "<%s>: %s: it was made for another model: %v", s.Word, name, err)
		}
	}
	return nil
}

// Pack gives the subject offsets in the model's own layouts: requests that share it need not pack it for each picture, and their pictures share
// its memory. Offsets that act on a layer which the model lacks are left as they are.
func (m *Model) Pack(s Subject) Subject {
	unet := Packed{s.Layout, s.Offsets}.by(m.Layout)
	s.Layout, s.Offsets = unet.Layout, unet.Values
	s.TextOffsets = maps.Clone(s.TextOffsets)
	for name, offsets := range s.TextOffsets {
		s.TextOffsets[name] = offsets.by(m.TextLayouts[name])
	}
	return s
}

// by is p in another layout, or p where that cannot hold it.
func (p Packed) by(layout *op.Layout) Packed {
	if p.Layout == nil || layout == nil {
		return p
	}
	if values, err := layout.Repack(p.Layout, p.Values); err == nil && len(values) > 0 {
		return Packed{layout, values}
	}
	return p
}

// pack packs offsets by the model's layout of a network, nil if it takes none.
func pack(layout *op.Layout, p Packed) (Packed, error) {
	switch {
	case len(p.Values) == 0:
		return Packed{}, nil
	case layout == nil:
		return p, errors.New("offsets do not act on this network")
	case !op.Finite(p.Values):
		return p, errors.New("values are not numbers")
	case p.Layout == nil:
		p.Layout = layout
	}
	values, err := layout.Repack(p.Layout, p.Values)
	return Packed{layout, values}, err
}

// vectors is how many vectors the subject's word has, in each layer.
func (s Subject) vectors(m *Model) int {
	return len(s.WordEmbeddings) / (max(s.WordLayers, 1) * m.WordWidth())
}

// vector is vector i of a layer's word.
func (s Subject) vector(m *Model, layer, i int) []float32 {
	at := i
	if s.WordLayers > 1 {
		at += layer * s.vectors(m)
	}
	return s.WordEmbeddings[at*m.WordWidth():][:m.WordWidth()]
}

// Package concept defines what is learned about one subject, as plain data with one file form. A concept holds inputs
// of a run, never weights: word embeddings that stand in for its placeholder word, and coefficients or offsets that
// bend the UNet towards the subject.
package concept

import (
	"bytes"
	"fmt"
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"
)

// Concept is one subject. A zero WordEmbeddings, ImageTokens or Edit, nil Coefficients, Offsets or Preview means the method has none.
type Concept struct {
	ID        string    // the store's key: letters, digits, _ and -; empty before it is stored
	Name      string    // a label for people
	Word      string    // the placeholder, written <word> in prompts
	Class     string    // the noun it is an instance of, such as "face"
	Method    string    // what made it, such as "encoder"
	BaseModel string    // fingerprint of the model folder it is made for
	Layout    string    // digest of the offsets layout that Coefficients or Offsets refer to
	Encoder   string    // fingerprint of the encoder; empty if none was used
	Created   time.Time // kept in UTC
	Version   int       // under its ID, counted by what stores it; 0 is the first
	Photos    int       // how many were read
	PhotoHash string    // identifies the photos, so that the same ones need no second run
	Notes     []string  // remarks for the user, such as "several faces: the largest was taken"

	WordEmbeddings Embeddings
	Coefficients   []float32 // over the encoder's learned basis
	Offsets        []float32 // in the packed layout: a tuned vector, or several end to end that are summed
	LoRA           LoRA
	Edit           Edit
	ImageTokens    Tokens
	Preview        []byte // a thumbnail, JPEG or PNG
}

// Embeddings are the placeholder's vectors, [Layers, Vectors, Width] row-major: Layers is 1, or the number of
// cross-attention layers if each has its own.
type Embeddings struct {
	Layers, Vectors, Width int
	Data                   []float32
}

// Tokens are what an IP-Adapter makes of photos, [Count, Width] row-major: its UNet attends to them beside the text.
type Tokens struct {
	Count, Width int
	Data         []float32
}

// Limits of a concept's parts, far above what the methods make.
const (
	MaxPreview = 6 << 10 // bytes
	MaxNumbers = 1 << 24 // in each of embeddings, coefficients and offsets, and in the LoRA of one network
	maxVectors = 75      // what a prompt of CLIP has room for
	maxTokens  = 4096    // of all photos: an adapter makes 4 to 257 of each
	maxLabel   = 64      // runes of Name and Class
	maxNotes   = 16
	maxNote    = 300 // bytes
)

var (
	wordSyntax = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)
	idSyntax   = regexp.MustCompile(`^[A-Za-z0-9_-]{0,64}$`)
	tagSyntax  = regexp.MustCompile(`^[A-Za-z0-9._:+-]{0,128}$`)
)

// InvalidError says which field of a concept is wrong, and why.
type InvalidError struct {
	Field  string
	Reason string
}

func (e *InvalidError) Error() string { return fmt.Sprintf("concept: %s %s", e.Field, e.Reason) }

// ValidWord tells whether s may be a placeholder word: 1 to 32 of a–z, 0–9, _ and -.
func ValidWord(s string) error {
	if !wordSyntax.MatchString(s) {
		return &InvalidError{"word", fmt.Sprintf("%.40q is not 1 to 32 of a-z, 0-9, _ and -", s)}
	}
	return nil
}

// Validate returns an *InvalidError for the first field that cannot be stored or used.
func (c *Concept) Validate() error {
	if err := ValidWord(c.Word); err != nil {
		return err
	}
	if !idSyntax.MatchString(c.ID) {
		return &InvalidError{"id", fmt.Sprintf("%.80q has other characters than letters, digits, _ and -", c.ID)}
	}
	for _, f := range []struct {
		name, value string
		needed      bool
	}{
		{"method", c.Method, true}, {"base model", c.BaseModel, true}, {"layout", c.Layout, false},
		{"encoder", c.Encoder, false}, {"photo hash", c.PhotoHash, false},
	} {
		if f.needed && f.value == "" {
			return &InvalidError{f.name, "is missing"}
		}
		if !tagSyntax.MatchString(f.value) {
			return &InvalidError{f.name, fmt.Sprintf("%.40q is not a plain identifier", f.value)}
		}
	}
	if c.Class == "" && len(c.WordEmbeddings.Data) > 0 {
		return &InvalidError{"class", "is missing"}
	}
	for name, value := range map[string]string{"name": c.Name, "class": c.Class} {
		if !isLabel(value) || utf8.RuneCountInString(value) > maxLabel {
			return &InvalidError{name, fmt.Sprintf("%.80q is not a line of at most %d characters", value, maxLabel)}
		}
	}
	if c.Photos < 0 {
		return &InvalidError{"photos", "is negative"}
	}
	if c.Version < 0 {
		return &InvalidError{"version", "is negative"}
	}
	if err := c.validateNotes(); err != nil {
		return err
	}
	return c.validateNumbers()
}

func (c *Concept) validateNotes() error {
	if len(c.Notes) > maxNotes {
		return &InvalidError{"notes", fmt.Sprintf("has %d entries, more than %d", len(c.Notes), maxNotes)}
	}
	for _, note := range c.Notes {
		if !isLabel(note) || len(note) > maxNote {
			return &InvalidError{"notes", fmt.Sprintf("has %.40q, which is not a line of at most %d bytes", note, maxNote)}
		}
	}
	if len(c.Preview) > MaxPreview {
		return &InvalidError{"preview", fmt.Sprintf("has %d bytes, more than %d", len(c.Preview), MaxPreview)}
	}
	isJPEG, isPNG := bytes.HasPrefix(c.Preview, []byte("\xff\xd8\xff")), bytes.HasPrefix(c.Preview, []byte("\x89PNG\r\n\x1a\n"))
	if len(c.Preview) > 0 && !isJPEG && !isPNG {
		return &InvalidError{"preview", "is neither JPEG nor PNG"}
	}
	return nil
}

func (c *Concept) validateNumbers() error {
	if len(c.WordEmbeddings.Data)+len(c.Coefficients)+len(c.Offsets)+len(c.LoRA)+len(c.ImageTokens.Data)+len(c.Edit.Probe) == 0 {
		return &InvalidError{"content", "is missing: it has no embeddings, coefficients, offsets, LoRA, image tokens or edit"}
	}
	e := c.WordEmbeddings
	empty := e.Layers == 0 && e.Vectors == 0 && e.Width == 0 && len(e.Data) == 0
	if !empty {
		sizes := fmt.Sprintf("[%d, %d, %d]", e.Layers, e.Vectors, e.Width)
		if e.Layers < 1 || e.Layers > 1024 || e.Vectors < 1 || e.Vectors > maxVectors || e.Width < 1 || e.Width > 1<<14 {
			return &InvalidError{"embeddings", "have impossible sizes " + sizes}
		}
		if e.Layers*e.Vectors*e.Width != len(e.Data) {
			return &InvalidError{"embeddings", fmt.Sprintf("have %d numbers for sizes %s", len(e.Data), sizes)}
		}
	}
	if t := c.ImageTokens; t.Count*t.Width != len(t.Data) || t.Count < 0 || t.Count > maxTokens || (t.Count == 0) != (t.Width == 0) {
		return &InvalidError{"image tokens", fmt.Sprintf("have %d numbers for sizes [%d, %d]", len(t.Data), t.Count, t.Width)}
	}
	if len(c.ImageTokens.Data) > 0 && c.Encoder == "" {
		return &InvalidError{"encoder", "is missing: image tokens need one"}
	}
	if len(c.Coefficients)+len(c.Offsets) > 0 && c.Layout == "" {
		return &InvalidError{"layout", "is missing: coefficients and offsets need one"}
	}
	for _, f := range []struct {
		name string
		data []float32
	}{{"embeddings", e.Data}, {"coefficients", c.Coefficients}, {"offsets", c.Offsets}, {"image tokens", c.ImageTokens.Data}} {
		if err := validNumbers(f.name, f.data); err != nil {
			return err
		}
	}
	if err := c.Edit.validate(); err != nil {
		return err
	}
	return c.LoRA.validate()
}

func validNumbers(name string, data []float32) error {
	if len(data) > MaxNumbers {
		return &InvalidError{name, fmt.Sprintf("have %d numbers, more than %d", len(data), MaxNumbers)}
	}
	for i, v := range data {
		if v-v != 0 { // NaN or infinite
			return &InvalidError{name, fmt.Sprintf("have %v at %d", v, i)}
		}
	}
	return nil
}

// isLabel tells whether s is valid, printable text on one line.
func isLabel(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

package encoder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"slices"
	"strings"
	"time"

	"likeness/encoder/concept"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pixels"
)

// MaxPhotos is the number of photos of one person that are read together at most.
const MaxPhotos = 4

// Method is the name that concepts of an encoder carry.
const Method = "encoder"

// Encoder makes concepts from aligned photos and expands them to what the UNet reads. It is safe for concurrent use.
type Encoder struct {
	cfg     Config
	layout  *op.Layout
	run     Runner
	base    string
	version string
	down    [][]float32 // of each target, [rank, in]
	up      [][]float32 // of each target, [num_coefficients, rank·out]
}

// New prepares an encoder: component holds its weights, run its network, layout is that of the base model's UNet for the encoder's targets,
// base the base model's fingerprint.
func New(component *checkpoint.Component, run Runner, layout *op.Layout, base string) (*Encoder, error) {
	cfg, err := ParseConfig(component.Config())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", component.Path(), err)
	}
	e := &Encoder{cfg: cfg, layout: layout, run: run, base: base}
	if e.version, err = component.Fingerprint(); err != nil {
		return nil, err
	}
	for _, t := range layout.Targets() {
		down, err := read(component, "basis."+t.Path+"."+downName, cfg.Rank, t.In)
		if err != nil {
			return nil, err
		}
		up, err := read(component, "basis."+t.Path+"."+upName, cfg.NumCoefficients, cfg.Rank*t.Out)
		if err != nil {
			return nil, err
		}
		e.down, e.up = append(e.down, down), append(e.up, up)
	}
	return e, nil
}

func read(c *checkpoint.Component, name string, dims ...int) ([]float32, error) {
	values, got, err := c.Float32(name)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(got, dims) {
		return nil, fmt.Errorf("%s: %s has dims %v, want %v", c.Path(), name, got, dims)
	}
	return values, nil
}

// Config returns the encoder's configuration.
func (e *Encoder) Config() Config { return e.cfg }

// Layout is the one that expanded offsets are packed in. The base model's may have more targets.
func (e *Encoder) Layout() *op.Layout { return e.layout }

// Version identifies the encoder's weights.
func (e *Encoder) Version() string { return e.version }

// Encode reads 1 to MaxPhotos aligned photos of one person in one run and returns the concept of the class noun under the placeholder word.
func (e *Encoder) Encode(ctx context.Context, photos []*Photo, word, class string) (*concept.Concept, error) {
	if err := CheckCount(photos); err != nil {
		return nil, err
	}
	side := e.cfg.ImageSize
	size := 3 * side * side
	planes := make([]float32, len(photos)*size)
	c := &concept.Concept{Word: word, Class: class, Method: Method, BaseModel: e.base, Layout: e.layout.Digest(), Encoder: e.version,
		Created: time.Now().UTC(), Photos: len(photos), PhotoHash: HashPhotos(photos)}
	for i, p := range photos {
		if p.Image.Rect.Size() != image.Pt(side, side) {
			return nil, fmt.Errorf("photo %d is %v, the encoder reads %d×%d", i+1, p.Image.Rect.Size(), side, side)
		}
		pixels.Planes(planes[i*size:], p.Image)
		c.Notes = append(c.Notes, p.Notes...)
	}
	out, err := e.run.Run(ctx, map[string]op.Array{"photos": op.Floats(planes, 1, len(photos), 3, side, side)})
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	words := out["word_embeddings"].F32
	c.WordEmbeddings = concept.Embeddings{Layers: 1, Vectors: e.cfg.NumVectors, Width: e.cfg.TextWidth, Data: words}
	c.Coefficients = out["coefficients"].F32
	return c, c.Validate()
}

// CheckCount refuses no photos, and more than MaxPhotos, with a *PhotoError.
func CheckCount(photos []*Photo) error {
	if len(photos) < 1 || len(photos) > MaxPhotos {
		return refuse("photo_count", "%d photos: give 1 to %d of one person", len(photos), MaxPhotos)
	}
	return nil
}

// HashPhotos identifies a set of photos by the bytes they were read from, in any order.
func HashPhotos(photos []*Photo) string {
	var hashes []string
	for _, p := range photos {
		hashes = append(hashes, p.Hash)
	}
	slices.Sort(hashes)
	sum := sha256.Sum256([]byte(strings.Join(hashes, "\n")))
	return hex.EncodeToString(sum[:])
}

// OtherBaseError is a concept that was made for another base model or another layout of its offsets.
type OtherBaseError struct{ Word, Want, Got string }

func (e *OtherBaseError) Error() string {
	return fmt.Sprintf("concept <%s> was made for another base model (%.12s, this is %.12s): encode its photos again", e.Word, e.Got, e.Want)
}

// Expand returns the packed offsets of a concept at full strength, or nil where it has none.
func (e *Encoder) Expand(c *concept.Concept) ([]float32, error) {
	if c.BaseModel != e.base {
		return nil, &OtherBaseError{c.Word, e.base, c.BaseModel}
	}
	if c.Layout != "" && c.Layout != e.layout.Digest() {
		return nil, &OtherBaseError{c.Word, e.layout.Digest(), c.Layout}
	}
	if c.Offsets != nil {
		if len(c.Offsets) != e.layout.Size() {
			return nil, fmt.Errorf("concept <%s>: %d offsets, the layout has %d", c.Word, len(c.Offsets), e.layout.Size())
		}
		return c.Offsets, nil
	}
	if c.Coefficients == nil {
		return nil, nil
	}
	if c.Encoder != e.version {
		return nil, &OtherBaseError{c.Word, e.version, c.Encoder}
	}
	packed, err := e.ExpandCoefficients(c.Coefficients)
	if err != nil {
		return nil, fmt.Errorf("concept <%s>: %w", c.Word, err)
	}
	return packed, nil
}

// ExpandCoefficients is [Offsets] of one concept's coefficients in plain Go: packed offsets [layout.Size()].
func (e *Encoder) ExpandCoefficients(coefficients []float32) ([]float32, error) {
	targets := e.layout.Targets()
	k := e.cfg.NumCoefficients
	if len(coefficients) != k*len(targets) {
		return nil, fmt.Errorf("%d coefficients, the encoder makes %d", len(coefficients), k*len(targets))
	}
	packed := make([]float32, e.layout.Size())
	for i, t := range targets {
		down, up, _ := e.layout.Span(t.Path)
		copy(packed[down:up], e.down[i])
		into := packed[up : up+e.cfg.Rank*t.Out]
		for j, coefficient := range coefficients[i*k : (i+1)*k] {
			row := e.up[i][j*len(into) : (j+1)*len(into)]
			for x := range into {
				into[x] += coefficient * row[x]
			}
		}
	}
	return packed, nil
}

package concept

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"likeness/models/safetensors"
)

const (
	formatName   = "likeness.concept"
	formatNumber = "1"
	maxFile      = 256 << 20
	metaVersion  = "concept_version" // of the concept; "version" is the format's
)

// Names of the tensors in a file.
const (
	tensorEmbeddings   = "word_embeddings"
	tensorCoefficients = "coefficients"
	tensorOffsets      = "offsets"
	tensorImageTokens  = "image_tokens"
	tensorPreview      = "preview"
)

// DamagedError reports data that is not a concept, or no longer the one that was written.
type DamagedError struct {
	Path   string // the file, empty for bytes in memory
	Reason string
	Err    error // the cause, when there is one
}

func (e *DamagedError) Error() string {
	s := "concept"
	if e.Path != "" {
		s += " " + e.Path
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *DamagedError) Unwrap() error { return e.Err }

// Marshal encodes a valid concept as safetensors: fields in the header's metadata, numbers as float32 tensors, and a
// checksum over both. Equal concepts give equal bytes.
func (c *Concept) Marshal() ([]byte, error) {
	tensors, meta, err := c.encode()
	if err != nil {
		return nil, err
	}
	return safetensors.Marshal(tensors, meta)
}

// Write stores the concept at path atomically, in the form of Marshal.
func (c *Concept) Write(path string) error {
	tensors, meta, err := c.encode()
	if err != nil {
		return err
	}
	return safetensors.Write(path, tensors, meta)
}

func (c *Concept) encode() (map[string]safetensors.Tensor, map[string]string, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	notes, err := json.Marshal(c.Notes)
	if err != nil {
		return nil, nil, err
	}
	meta := map[string]string{
		"format": formatName, "version": formatNumber,
		"id": c.ID, "name": c.Name, "word": c.Word, "class": c.Class, "method": c.Method,
		"base_model": c.BaseModel, "layout": c.Layout, "encoder": c.Encoder,
		"created": c.Created.UTC().Format(time.RFC3339Nano), "photos": strconv.Itoa(c.Photos),
		"photo_hash": c.PhotoHash, "notes": string(notes),
	}
	if c.Version > 0 {
		meta[metaVersion] = strconv.Itoa(c.Version)
	}
	tensors := map[string]safetensors.Tensor{}
	if e := c.WordEmbeddings; len(e.Data) > 0 {
		tensors[tensorEmbeddings] = safetensors.F32(e.Data, e.Layers, e.Vectors, e.Width)
	}
	if len(c.Coefficients) > 0 {
		tensors[tensorCoefficients] = safetensors.F32(c.Coefficients, len(c.Coefficients))
	}
	if len(c.Offsets) > 0 {
		tensors[tensorOffsets] = safetensors.F32(c.Offsets, len(c.Offsets))
	}
	c.LoRA.encode(tensors)
	c.Edit.encode(tensors)
	if t := c.ImageTokens; len(t.Data) > 0 {
		tensors[tensorImageTokens] = safetensors.F32(t.Data, t.Count, t.Width)
	}
	if len(c.Preview) > 0 {
		tensors[tensorPreview] = safetensors.U8(c.Preview, len(c.Preview))
	}
	meta["sha256"] = checksum(tensors, meta)
	return tensors, meta, nil
}

// checksum covers every metadata field and tensor, so that a flipped bit is found.
func checksum(tensors map[string]safetensors.Tensor, meta map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(meta)) {
		if key != "sha256" {
			fmt.Fprintf(h, "%q %q\n", key, meta[key])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		t := tensors[name]
		fmt.Fprintf(h, "%q %s %v\n", name, t.DType, t.Shape)
		h.Write(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// IsFile tells whether the file at path is a concept, as far as its header says.
func IsFile(path string) bool {
	file, err := safetensors.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return file.Metadata()["format"] == formatName
}

// IsData tells whether a file in memory is a concept, as far as its header says.
func IsData(data []byte) bool {
	file, err := safetensors.Parse(data)
	return err == nil && file.Metadata()["format"] == formatName
}

// Read opens a concept file. What is wrong with it is a *DamagedError.
func Read(path string) (*Concept, error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("concept %s: %w", path, unwrapPath(err))
	}
	if !stat.Mode().IsRegular() || stat.Size() > maxFile {
		return nil, &DamagedError{Path: path, Reason: "not a concept file"}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("concept %s: %w", path, unwrapPath(err))
	}
	c, err := Unmarshal(data)
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		damaged.Path = path
	}
	return c, err
}

func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Unmarshal decodes and validates what Marshal made. The concept's numbers are in data, where they can be used as they lie there. The error is
// a *DamagedError.
func Unmarshal(data []byte) (*Concept, error) {
	file, err := safetensors.Parse(data)
	if err != nil {
		return nil, &DamagedError{Reason: "cannot be read", Err: err}
	}
	meta := file.Metadata()
	if meta["format"] != formatName {
		return nil, &DamagedError{Reason: "this safetensors file is not a concept"}
	}
	if meta["version"] != formatNumber {
		return nil, &DamagedError{Reason: fmt.Sprintf("has format version %.10q, this program reads %s", meta["version"], formatNumber)}
	}
	tensors := map[string]safetensors.Tensor{}
	for _, name := range file.Names() {
		if tensors[name], err = file.Tensor(name); err != nil {
			return nil, &DamagedError{Reason: "cannot be read", Err: err}
		}
	}
	if checksum(tensors, meta) != meta["sha256"] {
		return nil, &DamagedError{Reason: "checksum does not match: the data was changed after it was written"}
	}
	c, err := decode(tensors, meta)
	if err != nil {
		return nil, &DamagedError{Reason: "has wrong content", Err: err}
	}
	return c, nil
}

func decode(tensors map[string]safetensors.Tensor, meta map[string]string) (*Concept, error) {
	c := &Concept{
		ID: meta["id"], Name: meta["name"], Word: meta["word"], Class: meta["class"], Method: meta["method"],
		BaseModel: meta["base_model"], Layout: meta["layout"], Encoder: meta["encoder"], PhotoHash: meta["photo_hash"],
	}
	var err error
	if c.Created, err = time.Parse(time.RFC3339Nano, meta["created"]); err != nil {
		return nil, &InvalidError{"created", "is not a time"}
	}
	if c.Photos, err = strconv.Atoi(meta["photos"]); err != nil {
		return nil, &InvalidError{"photos", "is not a number"}
	}
	if text, ok := meta[metaVersion]; ok {
		if c.Version, err = strconv.Atoi(text); err != nil {
			return nil, &InvalidError{"version", "is not a number"}
		}
	}
	if err := json.Unmarshal([]byte(meta["notes"]), &c.Notes); err != nil {
		return nil, &InvalidError{"notes", "is not a list of texts"}
	}
	others := map[string]safetensors.Tensor{}
	for name, t := range tensors {
		switch name {
		case tensorEmbeddings, tensorCoefficients, tensorOffsets, tensorImageTokens, tensorPreview:
			if err := c.setTensor(name, t); err != nil {
				return nil, err
			}
		default:
			others[name] = t
		}
	}
	if c.Edit, err = decodeEdit(others); err != nil {
		return nil, err
	}
	if c.LoRA, err = decodeLoRA(others); err != nil {
		return nil, err
	}
	return c, c.Validate()
}

// setTensor puts one tensor of a file into its field.
func (c *Concept) setTensor(name string, t safetensors.Tensor) error {
	rank, dtype := 1, safetensors.TypeF32
	switch name {
	case tensorEmbeddings:
		rank = 3
	case tensorImageTokens:
		rank = 2
	case tensorPreview:
		dtype = safetensors.TypeU8
	}
	if len(t.Shape) != rank || t.DType != dtype {
		return &InvalidError{name, fmt.Sprintf("is %s %v, not %s of %d dimensions", t.DType, t.Shape, dtype, rank)}
	}
	if name == tensorPreview {
		c.Preview = t.Data
		return nil
	}
	values, err := t.Float32()
	if err != nil {
		return &InvalidError{name, err.Error()}
	}
	switch name {
	case tensorEmbeddings:
		c.WordEmbeddings = Embeddings{t.Shape[0], t.Shape[1], t.Shape[2], values}
	case tensorCoefficients:
		c.Coefficients = values
	case tensorOffsets:
		c.Offsets = values
	case tensorImageTokens:
		c.ImageTokens = Tokens{t.Shape[0], t.Shape[1], values}
	}
	return nil
}

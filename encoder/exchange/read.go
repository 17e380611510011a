package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"likeness/models/op"
	"likeness/models/safetensors"
)

// DefaultClass is the noun of a word whose file names none. At scale 1 it does not matter: the word's vectors replace the noun's.
const DefaultClass = "face"

// Bounds of what is read.
const (
	maxRank    = 1024
	maxValues  = 1 << 28 // numbers in a file
	maxVectors = 75      // of a word: what a prompt of CLIP has room for
)

// Names of our own fields in the metadata of files that we write.
const (
	metaWord  = "likeness.word"
	metaClass = "likeness.class"
	metaBase  = "likeness.base_model"
)

// Read reads the LoRA or the embedding at path for the base model. Whatever is wrong with it, all at once, is an *Error, or a
// *safetensors.Error where it is no such file.
func Read(path string, base *Base) (*Adapter, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := refusePickle(path, f); err != nil {
		return nil, err
	}
	file, err := safetensors.Map(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return read(&reader{file: file, name: path, base: base, beside: func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join(filepath.Dir(path), name))
	}})
}

// Parse reads a file that is in memory as Read does; name is that of the file.
func Parse(name string, data []byte, base *Base) (*Adapter, error) {
	if err := refusePickle(name, bytes.NewReader(data)); err != nil {
		return nil, err
	}
	file, err := safetensors.Parse(data)
	if err != nil {
		return nil, err
	}
	return read(&reader{file: file, name: name, base: base, beside: func(string) ([]byte, error) { return nil, fs.ErrNotExist }})
}

func read(r *reader) (*Adapter, error) {
	r.adapter = &Adapter{Word: wordOf(r.name)}
	keys := r.file.Names()
	r.adapter.Format = format(keys)
	switch {
	case slices.ContainsFunc(keys, isNetwork):
		r.problem("", "this is a whole network, neither a LoRA nor a word: open its model folder with --model")
	case r.adapter.Format == Embedding:
		r.readEmbedding()
	default:
		r.readLoRA()
	}
	if len(r.problems) > 0 {
		return nil, &Error{Path: r.name, Problems: r.problems}
	}
	return r.adapter, nil
}

// refusePickle tells Python's serialised objects by their first bytes, whatever the file's name.
func refusePickle(name string, file io.Reader) error {
	head := make([]byte, 8)
	if _, err := io.ReadFull(file, head); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // too short for either
	} else if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if head[3] < 8 && bytes.Equal(head[4:], make([]byte, 4)) {
		return nil // a safetensors header's length, whose lowest bytes may be those that a pickle begins with
	}
	for _, magic := range []string{"PK\x03\x04", "\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return &Error{name, []Problem{{"", "this is a pickle, whatever its name, and a pickle can run any program while it is read: convert it to safetensors"}}}
		}
	}
	return nil
}

// format tells which of the readable formats the tensors' names are of.
func format(keys []string) Format {
	loras := 0
	for _, key := range keys {
		if strings.HasPrefix(key, "lora_unet_") || strings.HasPrefix(key, "lora_te") {
			return Kohya
		}
		if _, _, ok := split(key); ok || refusal(key) != "" {
			loras++
		}
	}
	if loras == 0 {
		return Embedding
	}
	return Diffusers
}

// reader collects what a file holds and what is wrong with it.
type reader struct {
	file     *safetensors.File
	name     string                            // of the file
	beside   func(name string) ([]byte, error) // reads a file that lies beside it
	base     *Base
	adapter  *Adapter
	problems []Problem
}

func (r *reader) problem(key, format string, args ...any) {
	r.problems = append(r.problems, Problem{key, fmt.Sprintf(format, args...)})
}

// values reads a tensor, or reports what is wrong with it.
func (r *reader) values(key string) (values []float32, shape []int, ok bool) {
	info, _ := r.file.Info(key)
	n := op.Size(info.Shape)
	if n > maxValues {
		r.problem(key, "the tensor is larger than any LoRA's")
		return nil, nil, false
	}
	values, reason := numbers(r.file, key)
	if reason != "" {
		r.problem(key, "%s", reason)
		return nil, nil, false
	}
	return slices.Clone(values), info.Shape, true
}

// numbers are those of a tensor, which may be the file's own memory, or why there are none.
func numbers(file *safetensors.File, key string) (values []float32, reason string) {
	tensor, err := file.Tensor(key)
	if err == nil {
		values, err = tensor.Float32()
	}
	if err != nil {
		return nil, fmt.Sprintf("%s is no type of floating-point numbers", tensor.DType)
	}
	if !op.Finite(values) {
		return nil, "the tensor holds values that are not finite numbers"
	}
	return values, ""
}

var notInWords = regexp.MustCompile(`[^a-z0-9_-]+`)

// wordOf makes a placeholder word of a file's or a token's name.
func wordOf(name string) string {
	name = strings.TrimSuffix(filepath.Base(name), ".safetensors")
	word := strings.Trim(notInWords.ReplaceAllString(strings.ToLower(name), "-"), "-")
	if word = word[:min(len(word), 32)]; word == "" {
		return "it"
	}
	return word
}

package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"likeness/models/safetensors"
)

// Hashed at the start, middle and end of every weight.
const (
	sampleBytes  = 64
	sampleValues = 16
)

// Fingerprint identifies what a concept is made for: text encoders, tokenizers and UNet. Exchanging the VAE, the scheduler or the
// layout of the files leaves it as it is, and so does the precision: a single file, its diffusers folder, and the folder's float16 variant
// have one fingerprint. Any training of the networks changes it. Weights whose samples are not finite numbers are an error that names them all.
func (f *Folder) Fingerprint() (string, error) {
	h := sha256.New()
	for _, name := range []string{TextEncoder, TextEncoder2, UNet} {
		if name == TextEncoder2 && !f.Has(name) {
			continue
		}
		c, err := f.Component(name)
		if err != nil {
			return "", err
		}
		if err := c.hashValues(h); err != nil {
			return "", err
		}
	}
	for _, tokenizer := range []string{Tokenizer, Tokenizer2} {
		if tokenizer == Tokenizer2 && !f.Has(tokenizer) {
			continue
		}
		words, err := f.Component(tokenizer)
		if err != nil {
			return "", err
		}
		for _, name := range []string{"vocab.json", "merges.txt"} {
			data, err := os.ReadFile(filepath.Join(words.path, name))
			if err != nil {
				return "", err
			}
			field(h, name, data)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Fingerprint identifies the component: SHA-256, in hex, of its configuration, its weights' names, types and shapes,
// and samples of their bytes. It reads a few hundred bytes a weight.
func (c *Component) Fingerprint() (string, error) {
	h := sha256.New()
	if err := c.hash(h); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (c *Component) hash(h hash.Hash) error {
	config, err := canonical(c.config)
	if err != nil {
		return fmt.Errorf("%s: %w", c.path, err)
	}
	field(h, "config", config)
	return c.eachFile(func(file io.ReaderAt, info safetensors.Location) error {
		samples, err := sample(file, info, sampleBytes)
		field(h, fmt.Sprintf("%s %s %v", info.Name, info.DType, info.Shape), samples)
		return err
	})
}

// hashValues hashes samples of the weights' values as float16, under their names.
func (c *Component) hashValues(h hash.Hash) error {
	field(h, "weights of", []byte(filepath.Base(c.path)))
	var broken []string
	err := c.eachFile(func(file io.ReaderAt, info safetensors.Location) error {
		if !isFloat(info.DType) {
			return nil
		}
		samples, err := sample(file, info, sampleValues*int64(info.DType.Size()))
		if err != nil {
			return err
		}
		values, err := safetensors.Tensor{DType: info.DType, Shape: []int{len(samples) / info.DType.Size()}, Data: samples}.Float32()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(values, func(v float32) bool { return v-v != 0 }) {
			broken = append(broken, info.Name)
		}
		field(h, fmt.Sprintf("%s %v", info.Name, info.Shape), safetensors.F16(values, len(values)).Data)
		return nil
	})
	if err == nil && len(broken) > 0 {
		err = fmt.Errorf("%s: %d weights have values that are not finite numbers: %s", c.path, len(broken), strings.Join(broken, ", "))
	}
	return err
}

// eachFile calls visit with every weight, in order of their names, and the file it is in.
func (c *Component) eachFile(visit func(file io.ReaderAt, info safetensors.Location) error) error {
	files := map[string]*os.File{}
	defer func() {
		for _, file := range files {
			file.Close()
		}
	}()
	for _, name := range c.Names() {
		info, _ := c.Info(name)
		file := files[info.Path]
		if file == nil {
			var err error
			if file, err = os.Open(info.Path); err != nil {
				return err
			}
			files[info.Path] = file
		}
		if err := visit(file, info); err != nil {
			return fmt.Errorf("%s: weight %q: %w", info.Path, name, err)
		}
	}
	return nil
}

// field hashes a label and data so that no other pair hashes the same bytes.
func field(h hash.Hash, label string, data []byte) {
	fmt.Fprintf(h, "%d %s %d\n", len(label), label, len(data))
	h.Write(data)
}

// canonical drops what does not change a network from its configuration, and the order of the keys.
func canonical(config json.RawMessage) ([]byte, error) {
	if config == nil {
		return nil, nil
	}
	var fields map[string]any
	if err := json.Unmarshal(config, &fields); err != nil {
		return nil, err
	}
	for key := range fields {
		if strings.HasPrefix(key, "_") || key == "transformers_version" || key == "torch_dtype" || key == "dtype" {
			delete(fields, key)
		}
	}
	return json.Marshal(fields)
}

// sample reads the weight's bytes, or of many some, length at the start, in the middle and at the end.
func sample(file io.ReaderAt, info safetensors.Location, length int64) ([]byte, error) {
	if info.Length <= 3*length {
		p := make([]byte, info.Length)
		_, err := file.ReadAt(p, info.Offset)
		if info.Length == 0 || err == io.EOF {
			err = nil // the header check held that the bytes are there
		}
		return p, err
	}
	size := int64(info.DType.Size())
	middle := info.Length/size/2*size - length/2
	p := make([]byte, 3*length)
	for i, at := range []int64{0, middle, info.Length - length} {
		if _, err := file.ReadAt(p[int64(i)*length:int64(i+1)*length], info.Offset+at); err != nil && err != io.EOF {
			return nil, err
		}
	}
	return p, nil
}

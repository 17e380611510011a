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
	"strings"
)

const sampleBytes = 64 // hashed at the start, middle and end of every weight

// Fingerprint identifies what a concept is made for: text encoders, tokenizers and UNet. Exchanging the VAE, the
// scheduler or a file's layout leaves it as it is; any training of the networks changes it.
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
		if err := c.hash(h); err != nil {
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
			if file, err = os.Open(info.Path); err != nil {
				return err
			}
			files[info.Path] = file
		}
		samples, err := sample(file, info)
		if err != nil {
			return fmt.Errorf("%s: weight %q: %w", info.Path, name, err)
		}
		field(h, fmt.Sprintf("%s %s %v", name, info.DType, info.Shape), samples)
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

func sample(file io.ReaderAt, info Info) ([]byte, error) {
	if info.Length <= 3*sampleBytes {
		p := make([]byte, info.Length)
		_, err := file.ReadAt(p, info.Offset)
		if info.Length == 0 || err == io.EOF {
			err = nil // the header check held that the bytes are there
		}
		return p, err
	}
	p := make([]byte, 3*sampleBytes)
	for i, at := range []int64{0, info.Length/2 - sampleBytes/2, info.Length - sampleBytes} {
		if _, err := file.ReadAt(p[i*sampleBytes:(i+1)*sampleBytes], info.Offset+at); err != nil && err != io.EOF {
			return nil, err
		}
	}
	return p, nil
}

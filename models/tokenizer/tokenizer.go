// Package tokenizer turns prompts into the token ids of CLIP's text encoders: byte-level BPE over lower-cased text, as
// published with CLIP (Radford et al. 2021) and read from the vocab.json and merges.txt of a model folder. A placeholder
// word such as <me> takes up slots whose embeddings the caller supplies.
package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const (
	maxMerges      = 49152 - 256 - 2 // CLIP reads no more lines of merges.txt than this
	defaultLength  = 77              // CLIP's context when the folder names none
	maxPromptBytes = 8 << 10
)

// Tokenizer encodes prompts. It is immutable and safe for concurrent use.
type Tokenizer struct {
	vocab     map[string]int64
	ranks     map[[2]string]int
	maxLength int
	start     special
	end       special
	pad       int64
	unknown   int64
}

type special struct {
	text string
	id   int64
}

// Open reads the tokenizer folder dir: vocab.json and merges.txt, and, where present, special_tokens_map.json and
// tokenizer_config.json.
func Open(dir string) (*Tokenizer, error) {
	t, err := OpenFS(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", dir, err)
	}
	return t, nil
}

// OpenFS is Open on a file system whose root is the tokenizer folder.
func OpenFS(fsys fs.FS) (*Tokenizer, error) {
	t := &Tokenizer{}
	if err := readJSON(fsys, "vocab.json", &t.vocab); err != nil {
		return nil, err
	}
	if err := checkVocab(t.vocab); err != nil {
		return nil, err
	}
	merges, err := fs.ReadFile(fsys, "merges.txt")
	if err != nil {
		return nil, err
	}
	if t.ranks, err = parseMerges(string(merges), t.vocab); err != nil {
		return nil, err
	}
	s, err := readSettings(fsys)
	if err != nil {
		return nil, err
	}
	return t, t.apply(s)
}

// MaxLength is the context length: the number of ids every encoding has.
func (t *Tokenizer) MaxLength() int { return t.maxLength }

// VocabSize is the number of tokens, special ones included.
func (t *Tokenizer) VocabSize() int { return len(t.vocab) }

// EndID is the id that ends a prompt; CLIP pools its text features there.
func (t *Tokenizer) EndID() int64 { return t.end.id }

// readJSON decodes a file of fsys into v.
func readJSON(fsys fs.FS, name string, v any) error {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// checkVocab holds that the ids are 0 … n-1, each once, as an embedding table needs.
func checkVocab(vocab map[string]int64) error {
	seen := make([]bool, len(vocab))
	for token, id := range vocab {
		if id < 0 || id >= int64(len(seen)) || seen[id] {
			return fmt.Errorf("vocab.json: id %d of %q is repeated or outside 0…%d", id, token, len(seen)-1)
		}
		seen[id] = true
	}
	return nil
}

func parseMerges(text string, vocab map[string]int64) (map[[2]string]int, error) {
	ranks := map[[2]string]int{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || i == 0 && strings.HasPrefix(line, "#version") {
			continue
		}
		if len(ranks) == maxMerges {
			break
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || strings.Contains(right, " ") {
			return nil, fmt.Errorf("merges.txt:%d: %q is not a pair", i+1, line)
		}
		if _, known := vocab[left+right]; !known {
			return nil, fmt.Errorf("merges.txt:%d: vocab.json has no token %q", i+1, left+right)
		}
		if _, twice := ranks[[2]string{left, right}]; twice {
			return nil, fmt.Errorf("merges.txt:%d: %q is repeated", i+1, line)
		}
		ranks[[2]string{left, right}] = len(ranks)
	}
	return ranks, nil
}

// settings are the fields read from tokenizer_config.json and special_tokens_map.json, the latter winning.
type settings struct {
	MaxLength *float64   `json:"model_max_length"`
	Start     *tokenText `json:"bos_token"`
	End       *tokenText `json:"eos_token"`
	Pad       *tokenText `json:"pad_token"`
	Unknown   *tokenText `json:"unk_token"`
}

// tokenText is a special token, published as a string or as an object with a content field.
type tokenText string

// UnmarshalJSON reads either form.
func (s *tokenText) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var object struct {
			Content *string `json:"content"`
		}
		if err := json.Unmarshal(data, &object); err != nil {
			return err
		}
		if object.Content == nil {
			return errors.New("special token without content")
		}
		*s = tokenText(*object.Content)
		return nil
	}
	return json.Unmarshal(data, (*string)(s))
}

func readSettings(fsys fs.FS) (settings, error) {
	var s settings
	for _, name := range []string{"tokenizer_config.json", "special_tokens_map.json"} {
		if err := readJSON(fsys, name, &s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, err
		}
	}
	return s, nil
}

// apply sets what the settings decide; CLIP's own values stand in for missing ones.
func (t *Tokenizer) apply(s settings) error {
	t.maxLength = defaultLength
	if s.MaxLength != nil && *s.MaxLength < 1e6 { // larger ones are transformers' "no limit"
		t.maxLength = int(*s.MaxLength)
	}
	if t.maxLength < 3 {
		return fmt.Errorf("tokenizer_config.json: model_max_length %d leaves no room for a prompt", t.maxLength)
	}
	lookup := func(key string, text *tokenText, fallback string) (special, error) {
		token := fallback
		if text != nil {
			token = string(*text)
		}
		id, ok := t.vocab[token]
		if !ok {
			return special{}, fmt.Errorf("vocab.json has no %s %q", key, token)
		}
		return special{token, id}, nil
	}
	var pad, unknown special
	var errs [4]error
	t.start, errs[0] = lookup("bos_token", s.Start, "<|startoftext|>")
	t.end, errs[1] = lookup("eos_token", s.End, "<|endoftext|>")
	pad, errs[2] = lookup("pad_token", s.Pad, t.end.text)
	unknown, errs[3] = lookup("unk_token", s.Unknown, t.end.text)
	t.pad, t.unknown = pad.id, unknown.id
	return errors.Join(errs[:]...)
}

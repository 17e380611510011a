package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Truncate makes a small CLIP vocabulary from CLIP's merge list (bpe_simple_vocab_16e6.txt, unpacked; merges.txt has
// the same form): the 256 bytes, the same ending a word, the first merges in order of rank, and the two specials last.
func Truncate(bpe io.Reader, merges int) (vocabJSON, mergesTXT []byte, err error) {
	if merges < 0 || merges > maxMerges {
		return nil, nil, fmt.Errorf("%d merges: CLIP has 0 to %d", merges, maxMerges)
	}
	tokens := make([]string, 0, 512+merges+2)
	for _, b := range byteOrder {
		tokens = append(tokens, byteText[b])
	}
	for _, b := range byteOrder {
		tokens = append(tokens, byteText[b]+wordEnd)
	}
	var text bytes.Buffer
	text.WriteString("#version: 0.2\n")
	lines := bufio.NewScanner(bpe)
	lines.Scan() // the first line is a title
	for n := range merges {
		if !lines.Scan() {
			return nil, nil, fmt.Errorf("merge list ends after %d of %d merges", n, merges)
		}
		left, right, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return nil, nil, fmt.Errorf("merge list line %d: %q is not a pair", n+2, lines.Text())
		}
		tokens = append(tokens, left+right)
		fmt.Fprintf(&text, "%s %s\n", left, right)
	}
	if err := lines.Err(); err != nil {
		return nil, nil, fmt.Errorf("merge list: %w", err)
	}
	tokens = append(tokens, "<|startoftext|>", "<|endoftext|>")
	vocabJSON, err = marshalVocab(tokens)
	return vocabJSON, text.Bytes(), err
}

// marshalVocab writes the tokens in order of id, one a line.
func marshalVocab(tokens []string) ([]byte, error) {
	var b bytes.Buffer
	for i, token := range tokens {
		sep := ",\n"
		if i == 0 {
			sep = "{\n"
		}
		var key bytes.Buffer
		enc := json.NewEncoder(&key)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(token); err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s%s: %d", sep, bytes.TrimSpace(key.Bytes()), i)
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

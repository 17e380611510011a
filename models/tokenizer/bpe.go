package tokenizer

import (
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

const wordEnd = "</w>"

// pieces is CLIP's pattern: contractions, runs of letters, single digits, runs of anything else but space.
var pieces = regexp.MustCompile(`'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^ \p{L}\p{N}]+`)

// byteText is the printable character that stands for each byte in vocab.json (GPT-2's bytes_to_unicode): printable
// Latin-1 stands for itself, the rest follow from U+0100 on. byteOrder lists the bytes in vocabulary order.
var byteText, byteOrder = func() (text [256]string, order []byte) {
	for b := range 256 {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			text[b] = string(rune(b))
			order = append(order, byte(b))
		}
	}
	next := rune(0x100)
	for b := range 256 {
		if text[b] == "" {
			text[b] = string(next)
			order = append(order, byte(b))
			next++
		}
	}
	return text, order
}()

// Tokens encodes text without start, end or padding. Special tokens in it, spelled exactly, become their ids.
func (t *Tokenizer) Tokens(text string) []int64 {
	var ids []int64
	text = strings.ToValidUTF8(text, "\uFFFD")
	for text != "" {
		at, token := len(text), special{}
		for _, s := range []special{t.start, t.end} {
			if i := strings.Index(text, s.text); i >= 0 && i < at {
				at, token = i, s
			}
		}
		for _, piece := range pieces.FindAllString(normalize(text[:at]), -1) {
			ids = t.appendPiece(ids, piece)
		}
		if token.text == "" {
			break
		}
		ids = append(ids, token.id)
		text = text[at+len(token.text):]
	}
	return ids
}

// normalize composes (NFC), makes every space plain and lower-cases rune by rune.
func normalize(text string) string {
	var b strings.Builder
	for _, r := range norm.NFC.String(text) {
		switch {
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case r == 'İ': // the one letter whose lower case is two runes
			b.WriteString("i\u0307")
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// appendPiece merges the bytes of a piece, best rank first, and appends the ids of what remains.
func (t *Tokenizer) appendPiece(ids []int64, piece string) []int64 {
	parts := make([]string, len(piece))
	for i := range len(piece) {
		parts[i] = byteText[piece[i]]
	}
	parts[len(parts)-1] += wordEnd
	for len(parts) > 1 {
		best, at := len(t.ranks), -1
		for i := range len(parts) - 1 {
			if rank, ok := t.ranks[[2]string{parts[i], parts[i+1]}]; ok && rank < best {
				best, at = rank, i
			}
		}
		if at < 0 {
			break
		}
		parts[at] += parts[at+1]
		parts = append(parts[:at+1], parts[at+2:]...)
	}
	for _, part := range parts {
		id, ok := t.vocab[part]
		if !ok {
			id = t.unknown
		}
		ids = append(ids, id)
	}
	return ids
}

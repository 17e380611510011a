package tokenizer

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The first cases are those that parse_prompt_attention itself documents, with their results.
func TestParseWeights(t *testing.T) {
	for prompt, want := range map[string][]Part{
		"normal text":           {{"normal text", 1}},
		"an (important) word":   {{"an ", 1}, {"important", 1.1}, {" word", 1}},
		"(unbalanced":           {{"unbalanced", 1.1}},
		`\(literal\]`:           {{"(literal]", 1}},
		"(unnecessary)(parens)": {{"unnecessaryparens", 1.1}},
		"a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": {
			{"a ", 1}, {"house", 1.573}, {" ", 1.1}, {"on", 1}, {" a ", 1.1}, {"hill", 0.55}, {", sun, ", 1.1}, {"sky", 1.4641}, {".", 1.1},
		},
		"a [cat":                        {{"a ", 1}, {"cat", 1 / 1.1}},
		"":                              nil,
		"(":                             nil,
		"()":                            nil,
		"time 12:30, a) b] :) C:\\x \\": {{"time 12:30, a) b] :) C:\\x \\", 1}},
		`back\\slash`:                   {{`back\slash`, 1}},
		"(a: 1.5 )":                     {{"a", 1.5}},
		"(a:-1)(b:+.5)":                 {{"a", -1}, {"b", 0.5}},
		"(a:1.2.3)":                     {{"a:1.2.3", 1.1}},
		"(<me>:1.2) at (sea:1)":         {{"<me>", 1.2}, {" at sea", 1}},
		"a:1.2)":                        {{"a:1.2)", 1}},
		"(größe:1.2)é":                  {{"größe", 1.2}, {"é", 1}},
	} {
		got, err := ParseWeights(prompt)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", prompt, got, err)
			continue
		}
		for i := range want {
			if got[i].Text != want[i].Text || math.Abs(got[i].Weight-want[i].Weight) > 1e-9 {
				t.Errorf("%q: part %d is %v, want %v", prompt, i, got[i], want[i])
			}
		}
	}
	var weight *WeightError
	for _, prompt := range []string{"(a:11)", "(a:-10.5)", strings.Repeat("(", 30) + "a"} {
		if _, err := ParseWeights(prompt); !errors.As(err, &weight) {
			t.Errorf("%q: %v", prompt, err)
		}
	}
	var long *ErrTooLong
	if _, err := ParseWeights(strings.Repeat("(", maxPromptBytes+1)); !errors.As(err, &long) {
		t.Error(err)
	}
}

func TestChunks(t *testing.T) {
	tok := demo(t)
	room := tok.MaxLength() - 2
	words := []Placeholder{{Word: "me", Class: "face", Vectors: 3}}
	prompt := strings.Repeat("cat ", room-1) + "<me> (cat:1.5)"
	parts, err := ParseWeights(prompt)
	if err != nil {
		t.Fatal(err)
	}
	e, err := tok.EncodeChunks(parts, words, 3)
	if err != nil {
		t.Fatal(err)
	}
	cat, face := tok.Tokens("cat"), tok.Tokens("face")
	first, _ := tok.Encode(strings.Repeat("cat ", room-1), nil)
	second, _ := tok.Encode("face face face cat", nil)
	if len(cat)*len(face) != 1 || !slices.Equal(e.IDs, slices.Concat(first.IDs, second.IDs)) || e.Truncated != 0 {
		t.Errorf("got %v, %d truncated", e.IDs, e.Truncated)
	}
	for i, s := range e.Slots {
		if s != (Slot{0, i, tok.MaxLength() + 1 + i, face[0]}) {
			t.Errorf("slot %d is %v", i, s)
		}
	}
	weights := slices.Repeat([]float32{1}, 2*tok.MaxLength())
	weights[tok.MaxLength()+4] = 1.5
	if !slices.Equal(e.Weights, weights) {
		t.Errorf("weights %v", e.Weights)
	}

	tok.Pad(&e, 4)
	empty, _ := tok.Encode("", nil)
	if want := slices.Concat(first.IDs, second.IDs, empty.IDs, empty.IDs); !slices.Equal(e.IDs, want) || len(e.Weights) != len(want) {
		t.Errorf("padded: %v", e.IDs)
	}
	before := slices.Clone(e.IDs)
	if tok.Pad(&e, 2); !slices.Equal(e.IDs, before) {
		t.Error("Pad took chunks away")
	}

	// One token more than fits, and then a word that must not be lost.
	full := []Part{{strings.Repeat("cat ", 2*room+1), 1}}
	if e, err = tok.EncodeChunks(full, words, 2); err != nil || e.Truncated != 1 || len(e.IDs) != 2*tok.MaxLength() || e.Weights != nil {
		t.Errorf("%d truncated, %d ids, %v", e.Truncated, len(e.IDs), err)
	}
	var long *ErrTooLong
	if _, err = tok.EncodeChunks(append(full, Part{"<me>", 1}), words, 2); !errors.As(err, &long) || !reflect.DeepEqual(long, &ErrTooLong{"me", 2 * room}) {
		t.Errorf("a word beyond the last chunk: %v", err)
	}
	if _, err = tok.EncodeChunks([]Part{{"<me>", 1}}, []Placeholder{{"me", "face", room + 1}}, 2); !errors.As(err, &long) {
		t.Errorf("a word longer than a chunk: %v", err)
	}
}

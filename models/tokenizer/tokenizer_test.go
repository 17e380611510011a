package tokenizer

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

const demoDir = "../demo/tokenizer"

// mergeList is CLIP's whole merge list, in the form of merges.txt.
func mergeList(t *testing.T) string {
	t.Helper()
	f, err := os.Open("testdata/merges.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// folder is a tokenizer folder in memory with the first merges of CLIP.
func folder(t *testing.T, merges int) fstest.MapFS {
	t.Helper()
	vocab, text, err := Truncate(strings.NewReader(mergeList(t)), merges)
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{"vocab.json": {Data: vocab}, "merges.txt": {Data: text}}
}

func open(t *testing.T, fsys fstest.MapFS) *Tokenizer {
	t.Helper()
	tok, err := OpenFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func demo(t *testing.T) *Tokenizer {
	t.Helper()
	tok, err := Open(demoDir)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// The ids are those of transformers' CLIPTokenizer (scripts/golden/tokenizer.py).
func TestGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Prompt      string
		Whole, Demo []int64
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	whole, small := open(t, folder(t, maxMerges)), demo(t)
	if whole.VocabSize() != 49408 || whole.MaxLength() != 77 || small.MaxLength() != 32 {
		t.Fatal(whole.VocabSize(), whole.MaxLength(), small.MaxLength())
	}
	for _, c := range cases {
		for _, v := range []struct {
			name string
			tok  *Tokenizer
			want []int64
		}{{"whole", whole, c.Whole}, {"demo", small, c.Demo}} {
			e, err := v.tok.Encode(c.Prompt, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := v.want
			for len(want) < v.tok.MaxLength() {
				want = append(want, v.tok.EndID())
			}
			if !reflect.DeepEqual(e.IDs, want) {
				t.Errorf("%s %q:\n got %v\nwant %v", v.name, c.Prompt, e.IDs, v.want)
			}
		}
	}
}

func TestPlaceholders(t *testing.T) {
	tok := demo(t)
	plain, err := tok.Encode("a face and a woman, face", nil)
	if err != nil {
		t.Fatal(err)
	}
	words := []Placeholder{{Word: "me", Class: "face", Vectors: 1}, {Word: "ann", Class: "woman", Vectors: 1}}
	e, err := tok.Encode("a <me> and a <ann>, <me>", words)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(e.IDs, plain.IDs) {
		t.Fatalf("slots hold %v, the class words are %v", e.IDs, plain.IDs)
	}
	face, woman := tok.Tokens("face"), tok.Tokens("woman")
	if len(face) != 1 || len(woman) != 1 {
		t.Fatalf("expected whole words: face %v, woman %v", face, woman)
	}
	want := []Slot{{0, 0, 2, face[0]}, {1, 0, 5, woman[0]}, {0, 0, 7, face[0]}}
	if !reflect.DeepEqual(e.Slots, want) {
		t.Fatalf("slots %v, want %v", e.Slots, want)
	}

	two, err := tok.Encode("<me><me> x", []Placeholder{{Word: "me", Class: "old man", Vectors: 2}})
	if err != nil {
		t.Fatal(err)
	}
	class := tok.Tokens("old man")
	want = []Slot{{0, 0, 1, class[0]}, {0, 1, 2, class[1]}, {0, 0, 3, class[0]}, {0, 1, 4, class[1]}}
	if !reflect.DeepEqual(two.Slots, want) {
		t.Fatalf("slots %v, want %v", two.Slots, want)
	}
	other, err := tok.Encode("a <you>", words)
	if err != nil || len(other.Slots) != 0 {
		t.Fatal("another word became a slot", other.Slots, err)
	}
}

func TestClassIDsEndAtTheNoun(t *testing.T) {
	for _, c := range []struct {
		class []int64
		n     int
		want  []int64
	}{{[]int64{1}, 3, []int64{1, 1, 1}}, {[]int64{1, 2}, 1, []int64{2}}, {[]int64{1, 2}, 3, []int64{1, 1, 2}}} {
		for v, want := range c.want {
			if got := classID(c.class, v, c.n); got != want {
				t.Errorf("class %v, slot %d of %d: %d, want %d", c.class, v, c.n, got, want)
			}
		}
	}
}

func TestTooLong(t *testing.T) {
	tok := demo(t)
	me := []Placeholder{{Word: "me", Class: "face", Vectors: 2}}
	fits := strings.Repeat("a ", 28) + "<me>"
	e, err := tok.Encode(fits+" a a a", me)
	if err != nil || e.Truncated != 3 || len(e.IDs) != 32 || e.Slots[1].Position != 30 {
		t.Fatal(e, err)
	}
	var long *ErrTooLong
	if _, err := tok.Encode("a "+fits, me); !errors.As(err, &long) || long.Word != "me" || long.Limit != 30 {
		t.Fatal(err)
	}
	long = nil
	if _, err := tok.Encode(strings.Repeat("a", maxPromptBytes+1), me); !errors.As(err, &long) || long.Word != "" {
		t.Fatal(err)
	}
}

func TestBadPlaceholder(t *testing.T) {
	tok := demo(t)
	for _, p := range []Placeholder{{"", "face", 1}, {"me", "face", 0}, {"me", " ", 1}} {
		if _, err := tok.Encode("x", []Placeholder{p}); err == nil {
			t.Errorf("%+v was accepted", p)
		}
	}
}

// Stable Diffusion 2 pads with "!", named in special_tokens_map.json against tokenizer_config.json.
func TestPadToken(t *testing.T) {
	f := folder(t, 100)
	f["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(`{"pad_token":"<|endoftext|>","model_max_length":7,"bos_token":{"content":"<|startoftext|>","lstrip":false}}`)}
	f["special_tokens_map.json"] = &fstest.MapFile{Data: []byte(`{"pad_token":"!"}`)}
	tok := open(t, f)
	e, err := tok.Encode("!", nil)
	if err != nil {
		t.Fatal(err)
	}
	bang := tok.Tokens("!")
	want := []int64{612, bang[0], 613, 0, 0, 0, 0}
	if !reflect.DeepEqual(e.IDs, want) {
		t.Fatalf("%v, want %v", e.IDs, want)
	}
	f["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(`{"model_max_length":1000000000000000019884624838656}`)}
	if n := open(t, f).MaxLength(); n != 77 {
		t.Fatal(n)
	}
}

func TestDamagedFolder(t *testing.T) {
	for name, c := range map[string]struct{ file, text, says string }{
		"vocab missing":  {"vocab.json", "", "vocab.json"},
		"vocab damaged":  {"vocab.json", "{", "vocab.json"},
		"ids with gaps":  {"vocab.json", `{"a":0,"b":2}`, "id 2"},
		"ids repeated":   {"vocab.json", `{"a":0,"b":0}`, "repeated"},
		"merges missing": {"merges.txt", "", "merges.txt"},
		"not a pair":     {"merges.txt", "#version: 0.2\na b c\n", "merges.txt:2"},
		"unknown merge":  {"merges.txt", "#version: 0.2\nqq zz\n", "qqzz"},
		"merge twice":    {"merges.txt", "i n\ni n\n", "repeated"},
		"no such pad":    {"special_tokens_map.json", `{"pad_token":"nope"}`, "pad_token"},
		"odd token":      {"special_tokens_map.json", `{"pad_token":{}}`, "special_tokens_map.json"},
		"no room":        {"tokenizer_config.json", `{"model_max_length":2}`, "no room"},
	} {
		f := folder(t, 100)
		f[c.file] = &fstest.MapFile{Data: []byte(c.text)}
		if c.text == "" {
			delete(f, c.file)
		}
		if _, err := OpenFS(f); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.says)
		}
	}
	if _, err := Open("testdata/none"); err == nil || !strings.Contains(err.Error(), "testdata/none") {
		t.Error(err)
	}
}

// The bundled vocabulary is CLIP's, cut to its first merges.
func TestDemoVocabulary(t *testing.T) {
	for name, file := range folder(t, 3000) {
		got, err := os.ReadFile(demoDir + "/" + name)
		if err != nil || string(got) != string(file.Data) {
			t.Errorf("%s differs (%v)", name, err)
		}
	}
}

func TestTruncateRefuses(t *testing.T) {
	for _, n := range []int{-1, maxMerges + 1, 3} {
		if _, _, err := Truncate(strings.NewReader("title\na b\n"), n); err == nil {
			t.Errorf("%d merges of a list of one were made", n)
		}
	}
}

func FuzzEncode(f *testing.F) {
	tok, err := Open(demoDir)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a <me> x")
	f.Add("\xff\x00<|endoftext|><me>")
	f.Fuzz(func(t *testing.T, prompt string) {
		e, err := tok.Encode(prompt, []Placeholder{{Word: "me", Class: "face", Vectors: 2}})
		if err != nil {
			var long *ErrTooLong
			if !errors.As(err, &long) {
				t.Fatal(err)
			}
			return
		}
		if len(e.IDs) != tok.MaxLength() {
			t.Fatalf("%d ids", len(e.IDs))
		}
		for _, id := range e.IDs {
			if id < 0 || id >= int64(tok.VocabSize()) {
				t.Fatalf("id %d", id)
			}
		}
		for _, s := range e.Slots {
			if e.IDs[s.Position] != s.ClassID {
				t.Fatalf("slot %+v holds %d", s, e.IDs[s.Position])
			}
		}
	})
}

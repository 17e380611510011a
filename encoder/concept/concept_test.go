package concept

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"likeness/models/safetensors"
)

// full has every field set, with the sizes of the bundled model.
func full() *Concept {
	c := &Concept{
		ID: "c_0123456789abcdef", Name: "Zoë’s \"portrait\" <b>", Word: "me", Class: "old man", Method: "encoder",
		BaseModel: strings.Repeat("ab", 32), Layout: strings.Repeat("cd", 32), Encoder: strings.Repeat("ef", 32),
		Created: time.Date(2025, 3, 4, 5, 6, 7, 891, time.UTC), Photos: 2, PhotoHash: strings.Repeat("01", 32),
		Notes:          []string{"several faces: the largest was taken"},
		WordEmbeddings: Embeddings{Layers: 1, Vectors: 2, Width: 128, Data: make([]float32, 256)},
		Preview:        append([]byte("\xff\xd8\xff"), make([]byte, 5000)...), Coefficients: make([]float32, 4000),
		Offsets:     []float32{math.MaxFloat32, -0.1, 1e-40, float32(math.Copysign(0, -1))},
		ImageTokens: Tokens{Count: 4, Width: 2, Data: []float32{1, 2, 3, 4, 5, 6, 7, -8}},
		Edit:        Edit{Probe: []float32{1, -2}, Layers: map[string]Rows{"a.to_v": {Input: []float32{1, 2, 3}, Output: []float32{4, 5, 6}}}},
		LoRA: LoRA{
			"unet":         {"down_blocks.0.to_q": {In: 2, Out: 1, Rank: 2, Down: []float32{1, 2, 3, 4}, Up: []float32{5, 6}}},
			"text_encoder": {"a.b": {In: 1, Out: 1, Rank: 1, Down: []float32{0.5}, Up: []float32{-2}}},
		},
	}
	for i := range c.WordEmbeddings.Data {
		c.WordEmbeddings.Data[i] = float32(i) / 7
	}
	for i := range c.Coefficients {
		c.Coefficients[i] = -float32(i) / 3
	}
	return c
}

func TestRoundTrip(t *testing.T) {
	small := &Concept{
		Word: "x", Class: "face", Method: "textual-inversion", BaseModel: "b", Created: time.Unix(0, 0).UTC(),
		WordEmbeddings: Embeddings{Layers: 16, Vectors: 1, Width: 2, Data: make([]float32, 32)},
	}
	for _, c := range []*Concept{full(), small} {
		data, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Unmarshal(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Fatalf("got %+v, want %+v", got, c)
		}
		path := filepath.Join(t.TempDir(), "me.safetensors")
		if err := c.Write(path); err != nil {
			t.Fatal(err)
		}
		if raw, err := os.ReadFile(path); err != nil || !bytes.Equal(raw, data) {
			t.Fatal("the file differs from Marshal", err)
		}
		if got, err = Read(path); err != nil || !reflect.DeepEqual(got, c) {
			t.Fatal(got, err)
		}
	}
	if data, _ := full().Marshal(); len(data) > 32<<10 {
		t.Fatalf("a concept of the bundled model takes %d bytes", len(data))
	}
}

func TestValidate(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for field, spoil := range map[string]func(c *Concept){
		"word":         func(c *Concept) { c.Word = "Me" },
		"id":           func(c *Concept) { c.ID = "../x" },
		"method":       func(c *Concept) { c.Method = "" },
		"base model":   func(c *Concept) { c.BaseModel = "" },
		"layout":       func(c *Concept) { c.Layout = "" },
		"encoder":      func(c *Concept) { c.Encoder = "a b" },
		"photo hash":   func(c *Concept) { c.PhotoHash = "\x00" },
		"class":        func(c *Concept) { c.Class = "" },
		"name":         func(c *Concept) { c.Name = "two\nlines" },
		"photos":       func(c *Concept) { c.Photos = -1 },
		"notes":        func(c *Concept) { c.Notes = make([]string, maxNotes+1) },
		"preview":      func(c *Concept) { c.Preview = []byte("GIF89a") },
		"embeddings":   func(c *Concept) { c.WordEmbeddings.Data[3] = nan },
		"coefficients": func(c *Concept) { c.Coefficients[3] = inf },
		"offsets":      func(c *Concept) { c.Offsets[0] = nan },
		"lora":         func(c *Concept) { c.LoRA["text_encoder"]["a.b"].Up[0] = nan },
		"image tokens": func(c *Concept) { c.ImageTokens.Data[7] = nan },
		"edit":         func(c *Concept) { c.Edit.Layers["a.to_v"].Output[1] = nan },
		"content": func(c *Concept) {
			c.WordEmbeddings, c.Coefficients, c.Offsets, c.LoRA, c.ImageTokens, c.Edit = Embeddings{}, nil, nil, nil, Tokens{}, Edit{}
		},
	} {
		c := full()
		spoil(c)
		var e *InvalidError
		if err := c.Validate(); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: got %v", field, err)
		}
		if _, err := c.Marshal(); err == nil {
			t.Errorf("%s: was encoded", field)
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := c.Write(path); err == nil {
			t.Errorf("%s: was written", field)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: left a file", field)
		}
	}
	for name, spoil := range map[string]func(c *Concept){
		"long preview":   func(c *Concept) { c.Preview = append(c.Preview, make([]byte, MaxPreview)...) },
		"wrong product":  func(c *Concept) { c.WordEmbeddings.Width = 127 },
		"no width":       func(c *Concept) { c.WordEmbeddings.Width = 0 },
		"tokens":         func(c *Concept) { c.ImageTokens.Count = 3 },
		"no encoder":     func(c *Concept) { c.Encoder = "" },
		"sizes overflow": func(c *Concept) { c.WordEmbeddings = Embeddings{1 << 32, 1 << 32, 1, []float32{1}} },
		"long name":      func(c *Concept) { c.Name = strings.Repeat("é", maxLabel+1) },
		"bad utf-8":      func(c *Concept) { c.Class = "\xff" },
		"long note":      func(c *Concept) { c.Notes = []string{strings.Repeat("x", maxNote+1)} },
	} {
		c := full()
		spoil(c)
		if err := c.Validate(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestValidWord(t *testing.T) {
	for _, s := range []string{"a", "me", "ann-2_b", "0", strings.Repeat("z", 32)} {
		if err := ValidWord(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "Me", "a b", "é", "<me>", "a:1", "a\n", strings.Repeat("z", 33)} {
		if err := ValidWord(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

// Any one flipped bit and any truncation is found.
func TestDamageIsFound(t *testing.T) {
	c := full()
	c.Coefficients, c.Preview = c.Coefficients[:50], nil
	c.WordEmbeddings = Embeddings{1, 1, 8, c.WordEmbeddings.Data[:8]}
	good, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		got, err := Unmarshal(bad)
		if err == nil && reflect.DeepEqual(got, c) {
			continue // padding of the header, or another spelling of the same JSON
		}
		if !errors.As(err, &damaged) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	for n := range len(good) {
		if _, err := Unmarshal(good[:n]); !errors.As(err, &damaged) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestNotAConcept(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, tensors map[string]safetensors.Tensor, meta map[string]string) string {
		path := filepath.Join(dir, name)
		if err := safetensors.Write(path, tensors, meta); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tensors, meta, err := full().encode()
	if err != nil {
		t.Fatal(err)
	}
	with := func(name string, tensor safetensors.Tensor, key, value string) (map[string]safetensors.Tensor, map[string]string) {
		ts, m := map[string]safetensors.Tensor{}, map[string]string{}
		for k, v := range tensors {
			ts[k] = v
		}
		for k, v := range meta {
			m[k] = v
		}
		if name != "" {
			ts[name] = tensor
		}
		if key != "" {
			m[key] = value
		}
		m["sha256"] = checksum(ts, m)
		return ts, m
	}
	f := safetensors.F32([]float32{1}, 1)
	for _, c := range []struct {
		says, tensor string
		value        safetensors.Tensor
		key, text    string
	}{
		{"not a concept", "", f, "format", "pt"},
		{"version", "", f, "version", "2"},
		{"unknown tensor", "more", f, "", ""},
		{"word_embeddings", "word_embeddings", f, "", ""},
		{"preview", "preview", f, "", ""},
		{"offsets", "offsets", safetensors.I64([]int64{1}, 1), "", ""},
		{"created", "", f, "created", "yesterday"},
		{"photos", "", f, "photos", "two"},
		{"notes", "", f, "notes", "{}"},
		{"word", "", f, "word", "A B"},
	} {
		ts, m := with(c.tensor, c.value, c.key, c.text)
		path := write("x.safetensors", ts, m)
		var damaged *DamagedError
		if _, err := Read(path); !errors.As(err, &damaged) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want an error with %q and the path", err, c.says)
		}
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Read(dir); err == nil {
		t.Error("a folder was read")
	}
}

func TestParsePrompt(t *testing.T) {
	for _, c := range []struct {
		prompt, text string
		uses         []Use
	}{
		{"a cat", "a cat", nil},
		{"", "", nil},
		{"<me> as an astronaut", "<me> as an astronaut", []Use{{"me", 1}}},
		{"<ann:0.8> and <Bob> at <ann>'s", "<ann> and <bob> at <ann>'s", []Use{{"ann", 0.8}, {"bob", 1}}},
		{"<me> then <me:0.5>, <me:0.50>", "<me> then <me>, <me>", []Use{{"me", 0.5}}},
		{"<me: -2 ><you:+2>", "<me><you>", []Use{{"me", -2}, {"you", 2}}},
		{"1 < 2 > 1, <>, < me>, <me, </b>, <é>, <|endoftext|>", "1 < 2 > 1, <>, < me>, <me, </b>, <é>, <|endoftext|>", nil},
		{"<<me>>", "<<me>>", []Use{{"me", 1}}},
		{"<" + strings.Repeat("a", 33) + ">", "<" + strings.Repeat("a", 33) + ">", nil},
	} {
		text, uses, err := ParsePrompt(c.prompt)
		if err != nil || text != c.text || !reflect.DeepEqual(uses, c.uses) {
			t.Errorf("%q: %q %v %v", c.prompt, text, uses, err)
		}
	}
	for _, p := range []string{
		"<me:nan>", "<me:NaN>", "<me:inf>", "<me:-Infinity>", "<me:2.01>", "<me:-2.1>", "<me:1e999>", "<me:>", "<me:big>",
		"<lora:me:0.8>", "<me:0.5> <me:0.6>",
	} {
		_, _, err := ParsePrompt(p)
		var e *ScaleError
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	data, err := full().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Unmarshal(data)
		if err != nil {
			return
		}
		again, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		second, err := Unmarshal(again)
		if err != nil || !reflect.DeepEqual(second, c) {
			t.Fatal(second, err)
		}
	})
}

func FuzzParsePrompt(f *testing.F) {
	f.Add("<ann:0.8> and <Bob> at <ann>'s 1 < 2 <me:")
	f.Fuzz(func(t *testing.T, prompt string) {
		text, uses, err := ParsePrompt(prompt)
		if err != nil {
			return
		}
		for _, u := range uses {
			if ValidWord(u.Word) != nil || !(u.Scale >= -MaxScale && u.Scale <= MaxScale) || !strings.Contains(text, "<"+u.Word+">") {
				t.Fatalf("%q: use %+v in %q", prompt, u, text)
			}
		}
		again, second, err := ParsePrompt(text)
		if err != nil || again != text || len(second) != len(uses) {
			t.Fatalf("%q: parsing %q again gives %q, %v, %v", prompt, text, again, second, err)
		}
	})
}

package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/safetensors"
)

// shelf stands in for the model that files are read for: a file's text says what happens.
type shelf struct{}

func (shelf) Import(name string, data []byte, word, class string) (*concept.Concept, error) {
	switch text := string(data); {
	case text == "lycoris":
		return nil, &exchange.Error{Path: name, Problems: []exchange.Problem{{Key: "x.hada_w1_a", Reason: "LyCORIS"}}}
	case text == "many":
		e := &exchange.Error{Path: name}
		for range 5000 {
			e.Problems = append(e.Problems, exchange.Problem{Key: "some.layer", Reason: "is not there"})
		}
		return nil, e
	case text == "":
		return nil, &safetensors.Error{Path: "data", Reason: "the file is truncated"}
	case text == "damaged":
		return nil, &concept.DamagedError{Reason: "checksum does not match"}
	case text == "the model is gone":
		return nil, &safetensors.Error{Path: "/models/unet/model.safetensors", Reason: "cannot open"}
	}
	c := &concept.Concept{Word: "ink", Class: class, Method: exchange.MethodLoRA, BaseModel: "base", Notes: []string{name + ": rank 1"},
		LoRA: concept.LoRA{"unet": {"a": {In: 1, Out: 1, Rank: 1, Down: []float32{1}, Up: []float32{2}}}}}
	if word != "" {
		c.Word = word
	}
	if string(data) == "another" {
		c.BaseModel = "other"
	}
	return c, nil
}

func (shelf) Export(c *concept.Concept, format string) ([]byte, error) {
	if format == "embedding" && len(c.WordEmbeddings.Data) == 0 {
		return nil, &exchange.FormatError{Reason: "<" + c.Word + "> has no word of its own"}
	}
	return []byte(format + " of " + c.Word), nil
}

func newShelf(t *testing.T) *world {
	return newWorld(t, func(c *Config) { c.Exchange, c.MaxUpload = shelf{}, 1<<16 })
}

func TestFileLife(t *testing.T) {
	w := newShelf(t)
	a := w.want(w.upload(part{"file", "a LoRA"}, part{"name", "Ink"}), http.StatusCreated)
	made := read[conceptBody](w, a)
	if made.Word != "ink" || made.Class != "" || made.Name != "Ink" || made.Photos != 0 || !made.Usable || made.Method != "lora" ||
		len(made.Notes) != 1 || made.ImageURL != "" || strings.Join(made.Formats, " ") != "kohya diffusers" || made.Notes[0] != "style.safetensors: rank 1" || a.header.Get("Location") != made.URL {
		t.Errorf("made %+v", made)
	}
	if again := read[conceptBody](w, w.want(w.upload(part{"file", "a LoRA"}), http.StatusOK)); again.ID != made.ID {
		t.Error("the same file is another concept")
	}
	other := read[conceptBody](w, w.want(w.upload(part{"file", "a LoRA"}, part{"word", "<pen>"}), http.StatusCreated))
	if other.ID == made.ID || other.Word != "pen" {
		t.Errorf("the same file under another word is %+v", other)
	}
	own, err := concept.Unmarshal(w.want(w.get(made.FileURL), 200).body)
	if err != nil || own.LoRA["unet"]["a"].Up[0] != 2 {
		t.Error(own, err)
	}
	for _, format := range []string{"kohya", "diffusers"} {
		a := w.want(w.get(made.FileURL+"?format="+format), 200, format+" of ink")
		if got := a.header.Get("Content-Disposition"); !strings.Contains(got, "ink-"+format+".safetensors") {
			t.Error(got)
		}
	}
	w.want(w.get(made.FileURL+"?format=embedding"), 422, "no word of its own", "format")
	w.want(w.get(made.FileURL+"?format=merged"), 400, "bin/server export", "format")
	w.want(w.get(made.URL+"/image"), 404)
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"a cat <ink:0.5>"}`), 200)
	if s := w.requests[0].Subjects; len(s) != 1 || s[0].Word != "ink" || s[0].Scale != 0.5 {
		t.Errorf("drawn with %+v", s)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	w := newShelf(t)
	for name, c := range map[string]struct {
		parts  []part
		status int
		says   []string
	}{
		"another method": {[]part{{"file", "lycoris"}}, 422, []string{"LyCORIS", "x.hada_w1_a", "file_unusable", `"param":"file"`}},
		"many problems":  {[]part{{"file", "many"}}, 422, []string{"is not there", "…"}},
		"cut":            {[]part{{"file", ""}}, 422, []string{"truncated", "file_damaged"}},
		"damaged":        {[]part{{"file", "damaged"}}, 422, []string{"checksum"}},
		"another model":  {[]part{{"file", "another"}}, 422, []string{"another base model"}},
		"large":          {[]part{{"file", strings.Repeat("x", 1<<16)}}, 413, []string{"larger"}},
		"two":            {[]part{{"file", "a"}, {"file", "b"}}, 422, []string{"one"}},
		"photo and file": {[]part{photo(red), {"file", "a"}, {"word", "me"}}, 400, []string{"one or the other"}},
		"word":           {[]part{{"file", "a"}, {"word", "No Word"}}, 400, []string{"word"}},
		"neither":        {[]part{{"word", "me"}}, 400, []string{"photos", "file"}},
	} {
		a := w.upload(c.parts...)
		if a.status != c.status || len(a.body) > 3000 {
			t.Errorf("%s: %d, %d bytes: %.300s", name, a.status, len(a.body), a.body)
		}
		for _, want := range c.says {
			if !strings.Contains(string(a.body), want) {
				t.Errorf("%s: %.300s does not say %q", name, a.body, want)
			}
		}
	}
	a := w.want(w.upload(part{"file", "the model is gone"}), 500)
	if strings.Contains(string(a.body), "/models") {
		t.Errorf("%s tells the server's paths", a.body)
	}
	if page, err := w.Store.List(t.Context(), 10, ""); err != nil || len(page.Concepts) != 0 {
		t.Error(page, err)
	}
	bare := newWorld(t)
	bare.want(bare.upload(part{"file", "a LoRA"}), 501, "no_exchange")
	bare.want(bare.get(bare.concept("me", red).FileURL+"?format=kohya"), 501, "no_exchange")
	if err := fileProblem(errors.New("x")); err.Error() != "x" {
		t.Error(err)
	}
}

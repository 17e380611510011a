package main

import (
	"fmt"

	"likeness/encoder/concept"
	"likeness/encoder/exchange"
)

// conceptFile is a file of a subject: a concept of our own, or a published adapter.
type conceptFile struct {
	path    string
	scale   float64
	concept *concept.Concept
	adapter *exchange.Adapter // nil for our own
}

// conceptFiles are the files that one command reads for one model folder.
type conceptFiles struct {
	folder string
	base   *exchange.Base // once an adapter needed it
	files  []*conceptFile
}

// read reads FILE[:SCALE].
func (f *conceptFiles) read(argument string) (*conceptFile, error) {
	path, scale, err := splitScale(argument)
	if err != nil {
		return nil, err
	}
	file := &conceptFile{path: path, scale: scale}
	if concept.IsFile(path) {
		file.concept, err = concept.Read(path)
	} else if err = f.openBase(); err == nil {
		if file.adapter, err = exchange.Read(path, f.base); err == nil {
			file.concept, err = file.adapter.Concept(f.base)
		}
	}
	if err != nil {
		return nil, err
	}
	f.files = append(f.files, file)
	return file, nil
}

func (f *conceptFiles) openBase() (err error) {
	if f.base == nil {
		f.base, err = exchange.OpenBase(f.folder)
	}
	return err
}

// concepts are those of all files.
func (f *conceptFiles) concepts() []*concept.Concept {
	var all []*concept.Concept
	for _, file := range f.files {
		all = append(all, file.concept)
	}
	return all
}

// describe says in a line what was found in a file.
func (f *conceptFiles) describe(file *conceptFile) string {
	if a := file.adapter; a != nil {
		s := file.path + ": " + a.Describe(f.base.TextWidth)
		if len(a.Embeddings) == 0 {
			s += fmt.Sprintf("; prompts may name it, as <%s:0.8>", a.Word)
		}
		return s
	}
	c := file.concept
	s := fmt.Sprintf("%s: concept <%s>, a %s, made by %s", file.path, c.Word, c.Class, c.Method)
	if n := c.WordEmbeddings.Vectors; n > 0 {
		s += fmt.Sprintf(", %d vectors", n)
		if layers := c.WordEmbeddings.Layers; layers > 1 {
			s += fmt.Sprintf(" for each of %d cross-attentions", layers)
		}
	}
	if n := len(c.Edit.Layers); n > 0 {
		s += fmt.Sprintf(", gated changes of %d layers", n)
	}
	if n := len(c.Coefficients); n > 0 {
		s += fmt.Sprintf(", %d coefficients", n)
	}
	if n := len(c.Offsets); n > 0 {
		s += fmt.Sprintf(", %d offsets", n)
	}
	if n := c.ImageTokens.Count; n > 0 {
		s += fmt.Sprintf(", %d image tokens; prompts may name it, as <%s:0.8>", n, c.Word)
	}
	if len(c.LoRA) > 0 {
		s += "; " + (&exchange.Adapter{LoRA: c.LoRA}).Describe(1)
	}
	return s
}

// Close releases the model folder.
func (f *conceptFiles) Close() error {
	if f.base == nil {
		return nil
	}
	return f.base.Close()
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/encoder/exchange"
	"likeness/models/backend/trace"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/safetensors"
	"likeness/models/unet"
)

type exportCommand struct {
	Concept string `arg:"" help:"A concept file; a LoRA or textual-inversion file is converted." type:"existingfile"`
	Model   string `help:"Model folder or checkpoint that the concept was made for." default:"models/demo" placeholder:"DIR"`
	Format  string `help:"kohya or diffusers (LoRA), embedding (textual inversion) or merged (weights of the UNet)." enum:"kohya,diffusers,embedding,merged" required:""`
	Out     string `short:"o" help:"The file to write." required:"" placeholder:"FILE.safetensors"`
}

// Help is shown by kong.
func (exportCommand) Help() string {
	return `Other programs read what this writes, with the same base model. A LoRA, or merged weights, change the layers; the word of the
concept goes into a second file, OUT-embedding.safetensors, which they need as well.

  server export me.safetensors --format kohya -o me-lora.safetensors
  server export me.safetensors --format embedding -o me-word.safetensors`
}

// Run is called by kong.
func (c *exportCommand) Run(context.Context) error {
	if err := safetensors.Writable(c.Out); err != nil {
		return err
	}
	base, err := exchange.OpenBase(c.Model)
	if err != nil {
		return err
	}
	defer base.Close()
	adapter, err := c.read(base)
	if err != nil {
		return err
	}
	format := exchange.Format(c.Format)
	if err := adapter.Write(c.Out, format, base); err != nil {
		return fmt.Errorf("%s: %w", c.Concept, err)
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", c.Concept, adapter.Describe(base.TextWidth))
	fmt.Fprintf(os.Stderr, "%s: written in the format %s\n", c.Out, format)
	if format == exchange.Embedding || len(adapter.Embeddings) == 0 {
		return nil
	}
	ext := filepath.Ext(c.Out)
	word := strings.TrimSuffix(c.Out, ext) + "-embedding" + ext
	if err := adapter.Write(word, exchange.Embedding, base); err != nil {
		return fmt.Errorf("%s: %w", c.Concept, err)
	}
	fmt.Fprintf(os.Stderr, "%s: %s of <%s>, which prompts name; load both\n", word, exchange.Embedding, adapter.Word)
	return nil
}

// read reads any file that holds a subject.
func (c *exportCommand) read(base *exchange.Base) (*exchange.Adapter, error) {
	if !concept.IsFile(c.Concept) {
		return exchange.Read(c.Concept, base)
	}
	read, err := concept.Read(c.Concept)
	if err != nil {
		return nil, err
	}
	if read.BaseModel != base.Fingerprint {
		return nil, fmt.Errorf("%s: %w", c.Concept, &encoder.OtherBaseError{Word: read.Word, Want: base.Fingerprint, Got: read.BaseModel})
	}
	layout, offsets, err := expand(c.Model, read)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Concept, err)
	}
	return exchange.FromConcept(read, layout, offsets, base)
}

// expand gives a concept's offsets by the basis of the folder's encoder, whose network does not run for it.
func expand(folder string, c *concept.Concept) (*op.Layout, []float32, error) {
	if len(c.Offsets)+len(c.Coefficients) == 0 {
		return nil, nil, nil
	}
	base, err := checkpoint.OpenComponent(filepath.Join(folder, checkpoint.UNet))
	if err != nil {
		return nil, nil, err
	}
	defer base.Close()
	basis, err := checkpoint.OpenComponent(filepath.Join(folder, "encoder"))
	if err != nil {
		return nil, nil, err
	}
	defer basis.Close()
	cfg, err := encoder.ParseConfig(basis.Config())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", basis.Path(), err)
	}
	denoiser, err := unet.ParseConfig(base.Config())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", base.Path(), err)
	}
	layout, err := trace.Layout(unet.New(denoiser, nil), cfg.Rank, cfg.IsTarget)
	if err != nil {
		return nil, nil, err
	}
	e, err := encoder.New(basis, nil, layout, c.BaseModel)
	if err != nil {
		return nil, nil, err
	}
	offsets, err := e.Expand(c)
	return layout, offsets, err
}

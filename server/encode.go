package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/safetensors"
	"likeness/server/config"
)

type encodeCommand struct {
	config.Model `embed:""`

	Photos []string `arg:"" name:"photo" help:"1 to 4 photos of one person: PNG, JPEG or WebP." type:"existingfile"`
	Word   string   `help:"The word that names the concept in prompts, as <me>." default:"me"`
	Class  string   `help:"The noun it is an instance of." default:"face"`
	Name   string   `help:"A label for people."`
	Out    string   `short:"o" help:"The concept file; by default the word with .safetensors." placeholder:"FILE"`
}

// Help is shown by kong.
func (encodeCommand) Help() string {
	return `Examples:

  server encode photo.jpg
  server encode a.png b.png c.png --word ann --class woman -o ann.safetensors
  server encode photo.jpg --model ~/models/stable-diffusion-v1-5 --ip-adapter ~/models/ip-adapter_sd15.safetensors`
}

// Run is called by kong.
func (c *encodeCommand) Run(ctx context.Context) error {
	if len(c.Photos) > encoder.MaxPhotos {
		return fmt.Errorf("%d photos: give 1 to %d of one person", len(c.Photos), encoder.MaxPhotos)
	}
	if err := concept.ValidWord(c.Word); err != nil {
		return err
	}
	if c.Out == "" {
		c.Out = c.Word + ".safetensors"
	}
	if err := safetensors.Writable(c.Out); err != nil {
		return err
	}
	m, err := openModel(c.Model, 1)
	if err != nil {
		return err
	}
	defer m.Close()
	start := time.Now()
	var photos []*encoder.Photo
	for _, path := range c.Photos {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		photo, err := m.Read(ctx, data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, note := range photo.Notes {
			fmt.Fprintf(os.Stderr, "%s: %s\n", path, note)
		}
		photos = append(photos, photo)
	}
	read := time.Since(start)
	made, err := m.Encode(ctx, photos, c.Word, c.Class)
	if err != nil {
		return err
	}
	made.Name = c.Name
	encoded := time.Since(start) - read
	if err := made.Write(c.Out); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: <%s>, read in %v, encoded in %v\n", c.Out, c.Word, read.Round(time.Millisecond), encoded.Round(time.Millisecond))
	return nil
}

//go:build torch

package evaluate

import (
	"context"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"

	"likeness/models/pixels"
)

// tally judges what was made for the first persons, writes figures, plot and contact sheets, and returns the figures.
func (c *comparison) tally(ctx context.Context, judge *Judge, persons int) (*Comparison, error) {
	c.Persons, c.subjects, c.judge = persons, c.subjects[:persons], judge
	if err := c.meet(ctx); err != nil {
		return nil, err
	}
	out := &Comparison{Model: c.model, Persons: persons, Gallery: len(c.gallery), Photos: c.photos, Contexts: c.Pictures / seeds, Seeds: seeds,
		Facets: facetNames(), LeftOut: c.leftOut}
	real, err := c.ceiling(ctx)
	if err != nil {
		return nil, err
	}
	out.Rows = append(out.Rows, Compared{Row: real, Reference: true})
	var without *shown
	for _, k := range c.candidates {
		row, seen, err := c.row(ctx, k, without)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		if without == nil {
			without = seen
		}
		out.Rows = append(out.Rows, row)
		if err := c.sheet(k, seen.pictures); err != nil {
			return nil, err
		}
	}
	return out, out.Save(c.dir)
}

// shown are a candidate's pictures [person][context][seed] and what the judge sees in them.
type shown struct {
	pictures []image.Image
	sights   []Sight
}

// row measures a candidate; without is what is shown without a concept, nil for that itself.
func (c *comparison) row(ctx context.Context, k candidate, without *shown) (Compared, *shown, error) {
	r := Compared{Row: Row{Method: k.name}, Reference: without == nil}
	s := &shown{}
	for i := range c.Persons {
		o := c.made(i, k)
		if o == nil {
			return r, nil, fmt.Errorf("%s is not what was written", filepath.Join(c.folder(i, k), outcomeFile))
		}
		n := float64(c.Persons)
		r.PrepareMS += 1000 * o.Seconds / n
		r.PictureMS += o.PictureMS / n
		r.Bytes += float64(o.Bytes) / n
		r.Steps += float64(o.Steps) / n
		for j := range c.Pictures {
			picture, err := readPNG(c.picturePath(i, j, k))
			if err != nil {
				return r, nil, err
			}
			s.pictures = append(s.pictures, picture)
		}
	}
	var err error
	if s.sights, err = c.measure(ctx, &r.Row, s.pictures); err != nil {
		return r, nil, err
	}
	various := make([][]float64, c.Persons)
	for at := 0; at < len(s.pictures); at += seeds {
		i := at / c.Pictures
		various[i] = append(various[i], diversity(s.pictures[at:at+seeds]))
	}
	apart := bootstrap(various)
	r.Diversity = &apart
	if without != nil {
		r.KeptFacets, r.KeptLayout, r.Gained = c.beside(s, without)
	}
	return r, s, nil
}

// beside compares pictures of the same prompts and seeds with a concept and without.
func (c *comparison) beside(with, without *shown) (facets, layout, gained *Interval) {
	alike, similar, more := make([][]float64, c.Persons), make([][]float64, c.Persons), make([][]float64, c.Persons)
	for at, picture := range with.pictures {
		i, j := at/c.Pictures, at%c.Pictures
		seen, before, wanted := with.sights[at].Labels, without.sights[at].Labels, c.subjects[i].contexts[j].Labels()
		alike[i] = append(alike[i], present(seen, before))
		similar[i] = append(similar[i], ssim(picture, without.pictures[at]))
		more[i] = append(more[i], present(seen, wanted)-present(before, wanted))
	}
	f, l, g := bootstrap(alike), bootstrap(similar), bootstrap(more)
	return &f, &l, &g
}

// sheetPersons is the number of a contact sheet's rows.
const sheetPersons = 12

// sheet writes a candidate's contact sheet: in a row for each of the first persons the first photo, then the pictures, context by context.
func (c *comparison) sheet(k candidate, pictures []image.Image) error {
	var cells []image.Image
	for i, s := range c.subjects[:min(sheetPersons, c.Persons)] {
		cells = append(cells, s.photos[0].Image)
		cells = append(cells, pictures[i*c.Pictures:(i+1)*c.Pictures]...)
	}
	dir := filepath.Join(c.dir, "sheets")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return pixels.WritePNG(filepath.Join(dir, k.folder()+".png"), pixels.Grid(cells, 1+c.Pictures))
}

func readPNG(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return img, nil
}

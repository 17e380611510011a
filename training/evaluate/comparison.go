package evaluate

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"likeness/training/portraits"
)

// Comparison is the outcome of measuring ways to make a concept on the same persons, photos, prompts and noise. Shares are of 1.
type Comparison struct {
	Model    string            `json:"base_model"` // fingerprint
	Persons  int               `json:"persons"`
	Gallery  int               `json:"gallery"` // persons that rank-1 is among
	Photos   int               `json:"photos_each"`
	Contexts int               `json:"contexts_each"`
	Seeds    int               `json:"seeds_each"` // pictures of one person in one context
	Facets   [6]string         `json:"facet_names"`
	Rows     []Compared        `json:"rows"`
	LeftOut  map[string]string `json:"left_out"` // methods that could not be measured, and why
}

// Compared is what was measured of one way. Its ms_per_person is the time from photos to concept on a model that is open.
type Compared struct {
	Row
	Reference bool    `json:"reference"`        // real renders and the prompt alone: what there is without a concept
	Steps     float64 `json:"steps_per_person"` // of the optimizer; some methods end early

	// Of each picture and that of the same prompt and seed without the concept: what a method leaves alone that it was not asked to change
	// (PuLID, Guo et al. 2024, section 4, measures it by CLIP-I). A photo that is copied into every picture keeps neither; a concept that does
	// nothing keeps all, so that they are read beside identity.
	KeptFacets *Interval `json:"kept_facets,omitempty"`        // share of the context's facets that the judge sees alike in both
	KeptLayout *Interval `json:"kept_layout,omitempty"`        // SSIM of the two
	Gained     *Interval `json:"editability_gained,omitempty"` // editability less that without the concept: a narrower interval than two rows'
	Diversity  *Interval `json:"diversity,omitempty"`          // of pictures of one context: mean of 1 - MS-SSIM over pairs of seeds
}

// facetNames are the names of a context's facets in the order of Row.Facets.
func facetNames() (names [6]string) {
	for i, facet := range portraits.LabelNames {
		names[i] = facet.Name
	}
	return names
}

// Write prints the table.
func (c *Comparison) Write(w io.Writer) error {
	fmt.Fprintf(w, "Persons: %d, photos of each: %d, contexts: %d, seeds: %d; in brackets 95 %% of a bootstrap over persons.\n", c.Persons, c.Photos, c.Contexts, c.Seeds)
	fmt.Fprint(w, "Gained and kept: beside the picture of the same prompt and seed without the concept. Diversity: 1 - MS-SSIM between seeds.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "method\tidentity, rank-1 of %d\tmean cosine\teditability\tgained\tkept facets\tkept layout\tdiversity\tsteps\ts/person\tbytes/person\n", c.Gallery)
	for _, r := range c.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", r.Method, percent(r.Rank1), number(r.Cosine), percent(r.Editability),
			optional(r.Gained, points), optional(r.KeptFacets, percent), optional(r.KeptLayout, number), optional(r.Diversity, number))
		if r.Reference {
			fmt.Fprint(t, "–\t–\t–\n")
			continue
		}
		fmt.Fprintf(t, "%.0f\t%.3g\t%.0f\n", r.Steps, r.seconds(), r.Bytes)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c.LeftOut)) {
		fmt.Fprintf(w, "%s is left out: %s\n", name, c.LeftOut[name])
	}
	return nil
}

func (r Compared) seconds() float64 { return r.PrepareMS / 1000 }

func optional(i *Interval, write func(Interval) string) string {
	if i == nil {
		return "–"
	}
	return write(*i)
}

// Names of what Save writes.
const (
	figuresFile = "comparison.json"
	plotFile    = "comparison" // .svg and .png
)

// Save writes the figures and their plot into dir.
func (c *Comparison) Save(dir string) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, figuresFile), append(data, '\n'), 0o644); err != nil {
		return err
	}
	return c.savePlot(filepath.Join(dir, plotFile))
}

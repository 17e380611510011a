package evaluate

import (
	"fmt"
	"image"
	"io"
	"text/tabwriter"

	"likeness/models/pixels"
	"likeness/training/portraits"
)

// Report is the outcome of a run. Shares are of 1.
type Report struct {
	Persons  int   `json:"persons"`
	Pictures int   `json:"pictures_each"`
	Rows     []Row `json:"rows"` // the first is that of real renders: the judge's own accuracy
}

// Row is what was measured of one method.
type Row struct {
	Method      string     `json:"method"`
	Rank1       Interval   `json:"rank1"`       // share of pictures whose person is the most alike of the gallery
	Cosine      Interval   `json:"cosine"`      // of picture and person
	Editability Interval   `json:"editability"` // share of the facets asked for that are seen
	Facets      [6]float64 `json:"facets"`      // the same by facet, in the order of portraits.LabelNames
	PrepareMS   float64    `json:"ms_per_person"`
	PictureMS   float64    `json:"ms_per_picture"` // several at a time
	Bytes       float64    `json:"bytes_per_person"`
}

// Write prints the table.
func (r *Report) Write(w io.Writer) error {
	real := r.Rows[0]
	fmt.Fprintf(w, "%d persons, %d pictures of each in each row; in brackets 95 %% of a bootstrap over persons.\n", r.Persons, r.Pictures)
	fmt.Fprintf(w, "Photos are a plain illustration in another pose, then pictures in random contexts; never the gallery's or the targets'.\n")
	fmt.Fprintf(w, "The judge on real renders: person %.1f %% (of %d)", 100*real.Rank1.Mean, r.Persons)
	for f, facet := range portraits.LabelNames {
		fmt.Fprintf(w, ", %s %.1f %%", facet.Name, 100*real.Facets[f])
	}
	fmt.Fprint(w, ".\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(t, "method\tidentity, rank-1 of %d\tmean cosine\teditability\tms/person\tms/picture\tbytes/person\n", r.Persons)
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.1f\t%.1f\t%.0f\n", row.Method, percent(row.Rank1), number(row.Cosine), percent(row.Editability),
			row.PrepareMS, row.PictureMS, row.Bytes)
	}
	return t.Flush()
}

func percent(i Interval) string {
	return fmt.Sprintf("%.1f %% [%.1f, %.1f]", 100*i.Mean, 100*i.Low, 100*i.High)
}

func points(i Interval) string {
	return fmt.Sprintf("%+.1f [%+.1f, %+.1f]", 100*i.Mean, 100*i.Low, 100*i.High)
}

func number(i Interval) string { return fmt.Sprintf("%.3f [%.3f, %.3f]", i.Mean, i.Low, i.High) }

// The grid shows this many persons, each in this many contexts.
const (
	gridPersons  = 6
	gridContexts = 2
)

// grid is a line for each of some persons and contexts: the photo, then a picture of each row of the table.
type grid struct {
	pictures int             // of each person
	photos   []image.Image   // by person
	rows     [][]image.Image // of the table: [person][context]
}

func (g *grid) add(pictures []image.Image) { g.rows = append(g.rows, pictures) }

func (g *grid) image() image.Image {
	var cells []image.Image
	for i, photo := range g.photos[:min(gridPersons, len(g.photos))] {
		for j := range min(gridContexts, g.pictures) {
			cells = append(cells, photo)
			for _, row := range g.rows {
				cells = append(cells, row[i*g.pictures+j])
			}
		}
	}
	return pixels.Grid(cells, 1+len(g.rows))
}

package evaluate

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func compared() *Comparison {
	facets, layout, gained, diversity := Interval{0.9, 0.85, 0.95}, Interval{0.51, 0.5, 0.52}, Interval{-0.01, -0.02, 0.005}, Interval{0.43, 0.4, 0.46}
	return &Comparison{
		Model: "abc", Persons: 8, Gallery: 100, Photos: 1, Contexts: 4, Seeds: 2, Facets: facetNames(),
		Rows: []Compared{
			{Row: Row{Method: "real renders", Rank1: Interval{0.97, 0.95, 1}, Editability: Interval{0.96, 0.95, 0.97}}, Reference: true},
			{Row: Row{Method: "encoder", Rank1: Interval{0.6, 0.55, 0.65}, Editability: Interval{0.8, 0.75, 0.85}, PrepareMS: 12, Bytes: 9000},
				KeptFacets: &facets, KeptLayout: &layout, Gained: &gained, Diversity: &diversity},
			{Row: Row{Method: "lora", Rank1: Interval{0.4, 0.3, 0.5}, Editability: Interval{0.7, 0.7, 0.7}, PrepareMS: 95_400, Bytes: 90_000}, Steps: 500,
				KeptFacets: &facets, KeptLayout: &layout, Gained: &gained, Diversity: &diversity},
		},
		LeftOut: map[string]string{"extended": "no room"},
	}
}

func TestComparisonTable(t *testing.T) {
	var b strings.Builder
	if err := compared().Write(&b); err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{
		"real renders": {"97.0 % [95.0, 100.0]", "96.0 %"},
		"encoder":      {"60.0 %", "-1.0 [-2.0, +0.5]", "90.0 % [85.0, 95.0]", "0.510 [0.500, 0.520]", "0.430 [0.400, 0.460]", "0.012", "9000"},
		"lora":         {"500", "95.4", "90000"},
		"extended":     {"is left out: no room"},
	}
	for name, wanted := range lines {
		_, line, _ := strings.Cut(b.String(), "\n"+name)
		line, _, _ = strings.Cut(line, "\n")
		for _, want := range wanted {
			if !strings.Contains(line, want) {
				t.Errorf("no %q in the line of %s:\n%s", want, name, b.String())
			}
		}
	}
}

// The figures read back as they were; the plot is a well-formed SVG with every name, and a PNG of the same form.
func TestComparisonFiles(t *testing.T) {
	dir, c := t.TempDir(), compared()
	if err := c.Save(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "comparison.json"))
	if err != nil {
		t.Fatal(err)
	}
	var figures struct {
		Persons int
		Rows    []map[string]any
		LeftOut map[string]string `json:"left_out"`
	}
	if err := json.Unmarshal(data, &figures); err != nil {
		t.Fatal(err)
	}
	if figures.Persons != 8 || len(figures.Rows) != 3 || figures.LeftOut["extended"] != "no room" {
		t.Errorf("%+v", figures)
	}
	for _, key := range []string{"method", "rank1", "cosine", "editability", "editability_gained", "kept_facets", "kept_layout", "diversity", "ms_per_person", "bytes_per_person", "steps_per_person"} {
		if _, ok := figures.Rows[2][key]; !ok {
			t.Errorf("no %q in %v", key, figures.Rows[2])
		}
	}
	if _, ok := figures.Rows[0]["diversity"]; ok {
		t.Error("what was not measured of real renders is there")
	}
	checkPlot(t, dir, "real renders", "encoder", "lora", "10 ms", "100 s")
}

// checkPlot decodes both forms of the plot in dir, and looks for texts in it.
func checkPlot(t *testing.T, dir string, texts ...string) {
	t.Helper()
	svg, err := os.ReadFile(filepath.Join(dir, "comparison.svg"))
	if err != nil {
		t.Fatal(err)
	}
	var written strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			written.Write(text)
		}
	}
	for _, text := range texts {
		if !strings.Contains(written.String(), text) {
			t.Errorf("the plot does not say %q", text)
		}
	}
	f, err := os.Open(filepath.Join(dir, "comparison.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size.X < 1000 || size.Y < 600 {
		t.Errorf("the plot has %v pixels", size)
	}
}

// Rows without an interval, of one time, or of none at all can be drawn as well.
func TestPlotOfLittle(t *testing.T) {
	for name, c := range map[string]*Comparison{
		"nothing": {}, "a reference": {Rows: compared().Rows[:1]}, "one method": {Rows: compared().Rows[2:]},
		"no time":  {Rows: []Compared{{Row: Row{Method: "quick"}}}},
		"a decade": {Rows: []Compared{{Row: Row{Method: "quick", PrepareMS: 1000}}}},
	} {
		if err := c.savePlot(filepath.Join(t.TempDir(), "comparison")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

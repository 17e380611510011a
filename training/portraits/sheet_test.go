package portraits

import (
	"bytes"
	"image"
	"testing"
)

func TestSheet(t *testing.T) {
	sheet := Sheet(2, 3, Test, 9)
	if sheet.Rect != image.Rect(0, 0, 3*Size, 2*Size) {
		t.Fatal(sheet.Rect)
	}
	if !bytes.Equal(sheet.Pix, Sheet(2, 3, Test, 9).Pix) || bytes.Equal(sheet.Pix, Sheet(2, 3, Test, 10).Pix) {
		t.Error("a sheet is not its seed's")
	}
}

func TestSamples(t *testing.T) {
	samples := Samples()
	if len(samples) < 4 {
		t.Fatalf("%d samples", len(samples))
	}
	names, people := map[string]bool{}, map[Identity]bool{}
	for i := range 1000 {
		people[Test.Identity(i)] = true
	}
	for _, s := range samples {
		if names[s.Name] || !people[s.Identity] {
			t.Errorf("%s: named before, or not of the test split", s.Name)
		}
		names[s.Name] = true
		want := NewRenderer().Draw(s.Identity, s.Context)
		if c := s.Context; c.Style != Illustration || c.Expression != Neutral || c.Headwear != NoHeadwear || !bytes.Equal(want.Pix, s.Image.Pix) {
			t.Errorf("%s is not a plain portrait of its identity", s.Name)
		}
	}
}

package portraits

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestContextsReachEveryValue(t *testing.T) {
	var counts [6][]int
	for f, facet := range LabelNames {
		counts[f] = make([]int, len(facet.Values))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		for f, v := range NewContext(r).Labels() {
			counts[f][v]++
		}
	}
	for f, facet := range LabelNames {
		for v, n := range counts[f] {
			if n < 50 {
				t.Errorf("%s %q occurs %d times in 5000", facet.Name, facet.Values[v], n)
			}
		}
	}
}

// with is c with one facet set, by its place in LabelNames.
func (c Context) with(facet, v int) Context {
	switch facet {
	case 0:
		c.Expression = Expression(v)
	case 1:
		c.Headwear = Headwear(v)
	case 2:
		c.Glasses = Glasses(v)
	case 3:
		c.Clothes = Clothes(v)
	case 4:
		c.Scene = Scene(v)
	case 5:
		c.Style = Style(v)
	}
	return c
}

// Labels and names follow the fields, and each value of a facet changes the picture in every style.
func TestEveryFacetIsVisible(t *testing.T) {
	renderer, id := NewRenderer(), Validation.Identity(3)
	for style := range styleNames {
		base := Context{Style: Style(style), Seed: 5}
		for f, facet := range LabelNames {
			var pictures [][]byte
			for v, name := range facet.Values {
				c := base.with(f, v)
				if c.Labels()[f] != v {
					t.Errorf("%s %q has label %d", facet.Name, name, c.Labels()[f])
				}
				pictures = append(pictures, bytes.Clone(renderer.Draw(id, c).Pix))
			}
			for i := range pictures {
				for j := range i {
					if d := difference(pictures[i], pictures[j]); d < 5 {
						t.Errorf("%s: %s %q and %q differ by %.1f pixels only", base.Style, facet.Name, facet.Values[i], facet.Values[j], d)
					}
				}
			}
		}
	}
}

func TestPoseAndSeedAreVisible(t *testing.T) {
	renderer, id := NewRenderer(), Validation.Identity(3)
	plain := bytes.Clone(renderer.Draw(id, Context{Scene: Space}).Pix)
	for name, c := range map[string]Context{
		"tilt": {Pose: Pose{Tilt: 0.1}}, "shift": {Pose: Pose{ShiftX: 2}}, "height": {Pose: Pose{ShiftY: 2}},
		"zoom": {Pose: Pose{Zoom: 0.05}}, "turn": {Pose: Pose{Turn: 1}}, "seed": {Seed: 1},
	} {
		c.Scene = Space
		if d := difference(plain, renderer.Draw(id, c).Pix); d < 20 {
			t.Errorf("%s changes the picture by %.1f pixels only", name, d)
		}
	}
}

func TestNamesOfValues(t *testing.T) {
	c := Context{Winking, WizardHat, Sunglasses, RedShirt, Beach, PixelArt, Pose{}, 0}
	names := []string{c.Expression.String(), c.Headwear.String(), c.Glasses.String(), c.Clothes.String(), c.Scene.String(), c.Style.String()}
	want := []string{"winking", "wizard hat", "sunglasses", "red", "beach", "pixel art"}
	for f, v := range c.Labels() {
		if names[f] != want[f] || LabelNames[f].Values[v] != want[f] {
			t.Errorf("%s: %q, %q, not %q", LabelNames[f].Name, names[f], LabelNames[f].Values[v], want[f])
		}
	}
}

package portraits

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// difference is how far two pictures are apart, as the number of pixels that would have to turn from black to white.
func difference(a, b []byte) float64 {
	sum := 0.0
	for k := range a {
		sum += math.Abs(float64(a[k]) - float64(b[k]))
	}
	return sum / 3 / 255
}

// variants are values of an identity's field, some pair of which must look different.
func variants(field reflect.Value) []reflect.Value {
	switch field.Kind() {
	case reflect.Float64:
		return []reflect.Value{reflect.ValueOf(0.1), reflect.ValueOf(0.9)}
	case reflect.Bool:
		return []reflect.Value{reflect.ValueOf(false), reflect.ValueOf(true)}
	}
	words := map[string]int{"Skin": len(skins), "HairColor": len(hairs), "HairStyle": len(hairForms), "Hairline": 5, "Beard": len(beardWords),
		"EyeColor": len(irises), "Nose": 4, "Mole": 4}
	var all []reflect.Value
	for k := range words[field.Type().Name()] {
		all = append(all, reflect.ValueOf(k).Convert(field.Type()))
	}
	return all
}

// Each trait shows: one field changed alone changes the picture, in every style that can show it.
func TestEveryTraitIsVisible(t *testing.T) {
	renderer := NewRenderer()
	kind := reflect.TypeFor[Identity]()
	if kind.NumField() < 25 {
		t.Errorf("%d traits", kind.NumField())
	}
	for style, least := range []float64{Illustration: 1.3, PencilSketch: 0.8} {
		for f := range kind.NumField() {
			for person := range 4 {
				id := Validation.Identity(person)
				id.HairStyle, id.Hairline, id.Blush = Ponytail, SideParting, 0.5 // so that what depends on them is there
				if id.Beard = Shaven; kind.Field(f).Name == "BeardWidth" {
					id.Beard = Goatee
				}
				c := Context{Scene: GreyGround, Clothes: BlueShirt, Style: Style(style)}
				var pictures [][]byte
				for _, v := range variants(reflect.ValueOf(id).Field(f)) {
					reflect.ValueOf(&id).Elem().Field(f).Set(v)
					pictures = append(pictures, bytes.Clone(renderer.Draw(id, c).Pix))
				}
				for i := range pictures {
					for j := range i {
						if d := difference(pictures[i], pictures[j]); d < least {
							t.Errorf("%s: values %d and %d of %s differ by %.2f pixels only", c.Style, i, j, kind.Field(f).Name, d)
						}
					}
				}
			}
		}
	}
}

// Two people differ in every style, however dressed.
func TestPeopleDiffer(t *testing.T) {
	one, other, r := NewRenderer(), NewRenderer(), rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		c := NewContext(r)
		a, b := one.Draw(Test.Identity(2*i), c).Pix, other.Draw(Test.Identity(2*i+1), c).Pix
		if d := difference(a, b); d < 150 {
			t.Errorf("people %d and %d in %+v differ by %.1f pixels only", 2*i, 2*i+1, c, d)
		}
	}
}

func TestSplitsAreDisjoint(t *testing.T) {
	const n = 20000
	seen := make(map[Identity]Split, 3*n)
	for _, s := range []Split{Train, Validation, Test} {
		for i := range n {
			id := s.Identity(i)
			if before, twice := seen[id]; twice {
				t.Fatalf("person %d of split %d is in split %d too", i, s, before)
			}
			seen[id] = s
		}
	}
	for _, i := range []int{0, 1, 1 << 40, math.MaxInt} {
		for _, s := range []Split{Train, Validation, Test} {
			if s.seed(i)>>62 != uint64(s) {
				t.Errorf("seed of person %d left split %d", i, s)
			}
		}
	}
	if Train.Identity(7) != Train.Identity(7) {
		t.Error("person 7 is not always the same")
	}
}

// Every value of every trait occurs.
func TestIdentitiesReachEveryValue(t *testing.T) {
	kind := reflect.TypeFor[Identity]()
	seen := make([]map[any]bool, kind.NumField())
	low, high := make([]float64, len(seen)), make([]float64, len(seen))
	for f := range seen {
		seen[f], low[f] = map[any]bool{}, 1
	}
	for i := range 3000 {
		id := reflect.ValueOf(Train.Identity(i))
		for f := range seen {
			if v := id.Field(f); v.Kind() == reflect.Float64 {
				low[f], high[f] = min(low[f], v.Float()), max(high[f], v.Float())
			} else {
				seen[f][v.Interface()] = true
			}
		}
	}
	for f := range seen {
		field := reflect.Zero(kind.Field(f).Type)
		if field.Kind() != reflect.Float64 && len(seen[f]) != len(variants(field)) {
			t.Errorf("%s has %d values of %d", kind.Field(f).Name, len(seen[f]), len(variants(field)))
		}
		if field.Kind() == reflect.Float64 && (low[f] < 0 || low[f] > 0.15 || high[f] < 0.85 || high[f] > 1) {
			t.Errorf("%s lies in [%.3f, %.3f]", kind.Field(f).Name, low[f], high[f])
		}
	}
}

package exchange

import (
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"likeness/encoder/concept"
	"likeness/models/op"
)

// A delta of a rank above the layout's is several vectors; rows that change nothing are not unpacked.
func TestPack(t *testing.T) {
	layout, err := op.NewLayout(2, []op.Target{{Path: "a", In: 2, Out: 1}, {Path: "b", In: 1, Out: 2}})
	if err != nil {
		t.Fatal(err)
	}
	one := concept.Delta{In: 2, Out: 1, Rank: 3, Down: []float32{1, 2, 3, 4, 5, 6}, Up: []float32{7, 8, 9}}
	packed := pack(t, layout, map[string]concept.Delta{"a": one})
	if len(packed) != 2*layout.Size() {
		t.Fatal(packed)
	}
	back, err := Unpack(layout, packed)
	if err != nil || len(back) != 1 || back["a"].Rank != 3 {
		t.Fatal(back, err)
	}
	for i, v := range one.Down {
		if back["a"].Down[i] != v {
			t.Errorf("down %v, want %v", back["a"].Down, one.Down)
		}
	}
	if _, err := Unpack(layout, make([]float32, 3)); err == nil {
		t.Error("three values were unpacked")
	}
}

// What is read from a file, another program's or our own, is the packed vector already where all ranks are one, and is the same as a copy of its
// parts in any case.
func TestPackOfFile(t *testing.T) {
	base := openBase(t)
	for file, parts := range map[string]bool{"peft_a": true, "trainer_a": false, "alphas_a": false} {
		a, err := Read(filepath.Join("testdata", file+".safetensors"), base)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Concept(base)
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(t.TempDir(), "own.safetensors")
		if err := c.Write(own); err != nil {
			t.Fatal(err)
		}
		if c, err = concept.Read(own); err != nil {
			t.Fatal(err)
		}
		for component, deltas := range a.LoRA {
			_, one, err := Pack(deltas)
			if err != nil {
				t.Fatal(err)
			}
			read := c.LoRA[component]
			_, other, err := Pack(read)
			if err != nil || !slices.Equal(one, other) {
				t.Errorf("%s: %s is packed in another way from a concept's file: %v", file, component, err)
			}
			if is := &other[0] == &read[Targets(read)[0].Path].Down[0]; is != parts {
				t.Errorf("%s: %s: a concept's deltas are parts of the vector: %v", file, component, is)
			}
			copies := map[string]concept.Delta{}
			for path, d := range deltas {
				d.Down, d.Up = slices.Clone(d.Down), slices.Clone(d.Up)
				copies[path] = d
			}
			layout, want, err := Pack(copies)
			if err != nil {
				t.Fatal(err)
			}
			own, got, err := Pack(deltas)
			if err != nil || own.Digest() != layout.Digest() || !slices.Equal(got, want) {
				t.Errorf("%s: %s is packed in another way: %v", file, component, err)
			}
			first := layout.Targets()[0].Path
			if is := &got[0] == &deltas[first].Down[0]; is != parts {
				t.Errorf("%s: %s: the deltas are parts of the vector: %v", file, component, is)
			}
			reversed := maps.Clone(deltas)
			last := layout.Targets()[len(deltas)-1].Path
			if x, y := deltas[first], deltas[last]; len(deltas) > 1 && len(x.Down) == len(y.Down) && len(x.Up) == len(y.Up) {
				reversed[first], reversed[last] = y, x
				if _, got, err := Pack(reversed); err != nil || slices.Equal(got, want) {
					t.Errorf("%s: %s: exchanged deltas are packed as before: %v", file, component, err)
				}
			}
		}
	}
}

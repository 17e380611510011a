package portraits

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestDrawIsDeterministic(t *testing.T) {
	one, other, r := NewRenderer(), NewRenderer(), rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		id, c := Train.Identity(i), NewContext(r)
		first := bytes.Clone(one.Draw(id, c).Pix)
		other.Draw(Test.Identity(i), NewContext(r))
		if !bytes.Equal(first, other.Draw(id, c).Pix) {
			t.Fatalf("%+v in %+v: two pictures", id, c)
		}
		for k := 3; k < len(first); k += 4 {
			if first[k] != 255 {
				t.Fatalf("%+v: not opaque", c)
			}
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	renderer, r := NewRenderer(), rand.New(rand.NewPCG(1, 2))
	i := 0
	for b.Loop() {
		renderer.Draw(Train.Identity(i), NewContext(r))
		i++
	}
}

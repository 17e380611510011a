package portraits

import (
	"image"
	"image/draw"
	"math/rand/v2"
)

// Sheet lays portraits out: one identity of the split a row, one random context a picture. The first column is the plain portrait.
func Sheet(rows, cols int, split Split, seed uint64) *image.RGBA {
	sheet := image.NewRGBA(image.Rect(0, 0, cols*Size, rows*Size))
	renderer, r := NewRenderer(), rand.New(rand.NewPCG(seed, 0x7368656574))
	first := r.IntN(1 << 20)
	for y := range rows {
		id := split.Identity(first + y)
		for x := range cols {
			c := Context{Scene: Scene(r.IntN(int(Beach))), Clothes: Clothes(r.IntN(len(clothesNames)))}
			if x > 0 {
				c = NewContext(r)
			}
			at := image.Rect(x*Size, y*Size, (x+1)*Size, (y+1)*Size)
			draw.Draw(sheet, at, renderer.Draw(id, c), image.Point{}, draw.Src)
		}
	}
	return sheet
}

// Sample is a portrait to try the product with.
type Sample struct {
	Name     string
	Identity Identity // of the Test split
	Context  Context  // a plain, neutral illustration
	Image    *image.RGBA
}

// Samples are the bundled sample faces.
func Samples() []Sample {
	chosen := []struct {
		name    string
		index   int
		scene   Scene
		clothes Clothes
	}{
		{"Ada", 7, BlueGround, WhiteShirt}, {"Bruno", 25, YellowGround, BlueShirt}, {"Chidi", 50, GreenGround, RedShirt},
		{"Dana", 40, PinkGround, PurpleShirt}, {"Emil", 17, GreyGround, GreenShirt}, {"Fumi", 18, BlueGround, YellowShirt},
	}
	samples := make([]Sample, 0, len(chosen))
	for _, s := range chosen {
		id, c := Test.Identity(s.index), Context{Scene: s.scene, Clothes: s.clothes}
		samples = append(samples, Sample{s.name, id, c, NewRenderer().Draw(id, c)})
	}
	return samples
}

package pipeline

import (
	"image"
	"sync"
	"testing"
)

// Pictures that are made from one image share its resized form while any of them is being made; others do not.
func TestCanvases(t *testing.T) {
	var c canvases
	r := Request{Image: image.NewGray(image.Rect(0, 0, 8, 8)), Mask: image.NewGray(image.Rect(0, 0, 8, 8)), Width: 4, Height: 4}
	one, first := c.use(r)
	two, second := c.use(r)
	if one != two {
		t.Error("two pictures of one image have two canvases")
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() { one.read(r) })
	}
	wait.Wait()
	picture := one.picture
	if two.read(r); picture == nil || two.picture != picture || len(two.mask) != 16 || two.mask[0] {
		t.Error("the image was resized again")
	}
	other := r
	other.Width = 8
	if wider, done := c.use(other); wider == one {
		t.Error("another size has the same canvas")
	} else {
		done()
	}
	other = r
	other.Image = image.NewGray(image.Rect(0, 0, 8, 8))
	if equal, done := c.use(other); equal == one {
		t.Error("another image has the same canvas")
	} else {
		done()
	}
	first()
	if again, done := c.use(r); again != one {
		t.Error("the canvas ended before its last picture")
	} else {
		done()
	}
	second()
	if len(c.open) != 0 {
		t.Errorf("%d canvases are left", len(c.open))
	}
	other.Image = odd{}
	_, done := c.use(other) // no key of a map
	done()
}

// odd is an image whose type cannot be compared.
type odd struct {
	*image.Uniform
	_ []int
}

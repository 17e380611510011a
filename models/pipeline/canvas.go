package pipeline

import (
	"image"
	"reflect"
	"sync"
)

// canvas is the picture that a request gives, and what of it is repainted, at the request's size.
type canvas struct {
	once    sync.Once
	picture *image.RGBA
	mask    []bool // nil: there is none
	users   int
}

// read resizes picture and mask, once.
func (c *canvas) read(r Request) {
	c.once.Do(func() {
		c.picture = resize(r.Image, r.Width, r.Height)
		if r.Mask == nil {
			return
		}
		c.mask = readMask(r.Mask, r.Width, r.Height)
		if opaque(r.Image) {
			return
		}
		for i, empty := range readMask(r.Image, r.Width, r.Height) { // there is nothing to keep
			c.mask[i] = c.mask[i] || empty
		}
	})
}

// canvasKey identifies what is resized: the pictures that are asked for together give the very same image.
type canvasKey struct {
	image, mask   image.Image
	width, height int
}

// canvases are those of the pictures that are being made, each for all that are made from one image.
type canvases struct {
	mu   sync.Mutex
	open map[canvasKey]*canvas
}

// use gives the canvas of a request until done is called.
func (c *canvases) use(r Request) (shared *canvas, done func()) {
	for _, img := range []image.Image{r.Image, r.Mask} {
		if img != nil && !reflect.TypeOf(img).Comparable() {
			return &canvas{}, func() {}
		}
	}
	key := canvasKey{r.Image, r.Mask, r.Width, r.Height}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[canvasKey]*canvas{}
	}
	shared = c.open[key]
	if shared == nil {
		shared = &canvas{}
		c.open[key] = shared
	}
	shared.users++
	return shared, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if shared.users--; shared.users == 0 {
			delete(c.open, key)
		}
	}
}

package pipeline

import (
	"context"
	"image"
	"image/color"
	"math"
	"slices"

	"golang.org/x/image/draw"

	"likeness/models/pixels"
)

// Strengths of requests that give none, as in diffusers.
const (
	defaultStrength        = 0.8
	defaultInpaintStrength = 1
)

// givenCache is how many pictures' latents an engine keeps.
const givenCache = 8

// original is the picture that a request starts from, and what of it is repainted, at the request's size.
type original struct {
	picture *image.RGBA // nil: a grey one, of which everything is repainted
	mask    []bool      // [H, W], true where it is repainted; nil: the whole picture is drawn anew from itself
	image   *moments    // of the picture, or nil
	masked  *moments    // of the picture without what is repainted, where the UNet reads it, or nil
}

// moments are the distribution of a picture's latents [C, h, w], unscaled.
type moments struct{ mean, std []float32 }

// draw takes latents from the distribution, one normal number for each.
func (d *moments) draw(normal func([]float32)) []float32 {
	latents := make([]float32, len(d.mean))
	normal(latents)
	for i, z := range latents {
		latents[i] = d.mean[i] + d.std[i]*z
	}
	return latents
}

// inpaints tells whether the UNet reads mask and masked picture beside the latents.
func (m *Model) inpaints() bool { return m.UNet.InChannels != m.VAE.LatentChannels }

// completeImage fills in strength and size of a request that gives a picture, and checks them.
func (r *Request) completeImage(m *Model) error {
	switch {
	case r.Image == nil && r.Mask != nil:
		return invalid("mask", "is given without an image")
	case r.Image == nil && r.Strength != 0:
		return invalid("strength", "is given without an image")
	case r.Image == nil:
		return nil
	}
	size := r.Image.Bounds().Size()
	if size.X < 1 || size.Y < 1 {
		return invalid("image", "is empty")
	}
	if r.Mask == nil && !opaque(r.Image) {
		r.Mask = r.Image
	}
	if r.Mask != nil {
		fill(&r.Strength, defaultInpaintStrength)
		if other := r.Mask.Bounds().Size(); other != size {
			return invalid("mask", "has %d×%d pixels, the image %d×%d: they must be of one size", other.X, other.Y, size.X, size.Y)
		}
	}
	fill(&r.Strength, defaultStrength)
	if !(r.Strength > 0 && r.Strength <= 1) {
		return invalid("strength", "%g: must be over 0, at most 1", r.Strength)
	}
	if r.Width == 0 && r.Height == 0 {
		r.Width, r.Height = m.Fit(size.X, size.Y)
	}
	return nil
}

// Fit is the size of a picture drawn from one of the given size: that size, rounded to multiples, or one of the model's own area if that is too large.
func (m *Model) Fit(width, height int) (int, int) {
	multiple, most := m.Multiple(), maxEnlarged*max(m.Size())
	scale := 1.0
	if max(width, height) > most {
		w, h := m.Size()
		scale = math.Sqrt(float64(w*h) / (float64(width) * float64(height)))
	}
	round := func(side int) int {
		return min(max(int(math.Round(scale*float64(side)/float64(multiple))), 1), most/multiple) * multiple
	}
	return round(width), round(height)
}

// opaque tells whether no pixel is transparent.
func opaque(img image.Image) bool {
	if known, ok := img.(interface{ Opaque() bool }); ok {
		return known.Opaque()
	}
	return false
}

// readMask tells for each pixel of a mask at the given size whether it is repainted.
func readMask(mask image.Image, width, height int) []bool {
	transparent := !opaque(mask)
	b := mask.Bounds()
	grey := image.NewGray(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		for x := range b.Dx() {
			c := mask.At(b.Min.X+x, b.Min.Y+y)
			if transparent {
				_, _, _, a := c.RGBA()
				grey.SetGray(x, y, color.Gray{uint8(255 - a>>8)})
			} else {
				grey.Set(x, y, c)
			}
		}
	}
	resized := grey
	if b.Dx() != width || b.Dy() != height {
		resized = image.NewGray(image.Rect(0, 0, width, height))
		draw.BiLinear.Scale(resized, resized.Rect, grey, grey.Rect, draw.Src, nil)
	}
	repainted := make([]bool, width*height)
	for i, v := range resized.Pix {
		repainted[i] = v >= 128
	}
	return repainted
}

// resize puts a picture on grey, at the given size.
func resize(img image.Image, width, height int) *image.RGBA {
	resized := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(resized, resized.Rect, image.NewUniform(color.Gray{128}), image.Point{}, draw.Src)
	draw.CatmullRom.Scale(resized, resized.Rect, img, img.Bounds(), draw.Over, nil)
	return resized
}

// encodeImage makes what the sample of a completed request starts from; nil: noise alone.
func (e *Engine) encodeImage(ctx context.Context, r Request, shared *canvas) (*original, error) {
	m := e.model
	if r.Image == nil && !m.inpaints() {
		return nil, nil
	}
	o := &original{}
	if r.Image != nil {
		shared.read(r)
		o.picture, o.mask = shared.picture, shared.mask
	}
	if o.mask == nil && m.inpaints() {
		o.mask = make([]bool, r.Width*r.Height)
		for i := range o.mask {
			o.mask[i] = true
		}
	}
	select { // networks of the VAE take much memory: they run one at a time
	case e.decoding <- struct{}{}:
		defer func() { <-e.decoding }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	planes := make([]float32, 3*r.Width*r.Height)
	var err error
	if r.Image != nil {
		pixels.Planes(planes, o.picture)
		if o.image, err = e.encode(ctx, planes, r.Width, r.Height); err != nil {
			return nil, err
		}
	}
	if m.inpaints() {
		for i := range planes {
			if o.mask[i%len(o.mask)] {
				planes[i] = 0
			}
		}
		o.masked, err = e.encode(ctx, planes, r.Width, r.Height)
	}
	return o, err
}

// encode runs the VAE's encoder over planes [3, H, W], once for pictures that are asked for together.
func (e *Engine) encode(ctx context.Context, planes []float32, width, height int) (*moments, error) {
	key := cacheKey([]int64{int64(width), int64(height)}, planes)
	if known, ok := e.given.get(key); ok {
		return &moments{known[:len(known)/2], known[len(known)/2:]}, nil
	}
	both, err := e.encodePixels(ctx, plane{planes, 3, height, width})
	if err != nil {
		return nil, err
	}
	half := len(both.values) / 2
	d := &moments{mean: both.values[:half], std: both.values[half:]}
	for i, v := range d.std {
		d.std[i] = float32(math.Exp(0.5 * min(max(float64(v), -30), 20)))
	}
	e.given.put(key, slices.Concat(d.mean, d.std))
	return d, nil
}

// paste puts back the pixels that were not to be repainted, whole and with a hard edge: through the VAE they would come out a little changed.
// diffusers does not do so by default; web UIs blend over a few pixels, which changes some that were to be kept.
func (o *original) paste(picture *image.NRGBA) {
	if o == nil || o.picture == nil || o.mask == nil {
		return
	}
	for i, repainted := range o.mask {
		if !repainted {
			copy(picture.Pix[4*i:4*i+4], o.picture.Pix[4*i:4*i+4])
		}
	}
}

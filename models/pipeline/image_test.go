package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/models/pipeline"
	"likeness/models/safetensors"
)

// tinyInpaint is tinySD with a UNet that reads mask and masked picture (scripts/golden/image.py).
var tinyInpaint = filepath.Join("testdata", "tiny-inpaint")

// readPixels is a tensor [H, W] or [H, W, 3] of 0…255 as a picture.
func readPixels(t *testing.T, file *safetensors.File, name string) *image.NRGBA {
	t.Helper()
	values, dims, err := file.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	h, w := dims[0], dims[1]
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	channels := len(values) / (h * w)
	for i := range h * w {
		for c := range 3 {
			img.Pix[4*i+c] = uint8(values[i*channels+c%channels])
		}
		img.Pix[4*i+3] = 255
	}
	return img
}

// Image to image and inpainting are diffusers', from the same seeds; what is not repainted stays as it was, to the pixel.
func TestImages(t *testing.T) {
	for _, dir := range []string{tinySD, tinyInpaint, filepath.Join("testdata", "tiny-sdxl_a"), filepath.Join("testdata", "tiny-sdxl_b")} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			file, err := safetensors.Open(filepath.Join(dir, "images.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			var golden struct {
				goldenRequest
				Cases map[string]struct {
					Kind     string
					Sampler  string
					Strength float64
				}
			}
			if err := json.Unmarshal([]byte(file.Metadata()["request"]), &golden); err != nil || len(golden.Cases) < 4 {
				t.Fatal(golden, err)
			}
			picture, mask := readPixels(t, file, "picture"), readPixels(t, file, "mask")
			e := openFolder(t, dir, words, pipeline.EngineConfig{})
			for _, name := range slices.Sorted(maps.Keys(golden.Cases)) {
				c := golden.Cases[name]
				r := golden.request()
				r.Image, r.Strength, r.Scheduler = picture, c.Strength, c.Sampler
				if c.Kind == "inpaint" {
					r.Mask = mask
				}
				got := generate(t, e, r)
				if r.Mask != nil {
					checkKept(t, file, name, picture, mask, got.Image)
				}
				compare(t, file, name, got)
			}
		})
	}
}

// checkKept holds that a result is the picture where its mask is black, and puts there what diffusers' has, so that both can be compared.
func checkKept(t *testing.T, file *safetensors.File, name string, picture, mask, got *image.NRGBA) {
	t.Helper()
	var want []float32
	if _, there := file.Info("image_" + name); there {
		var err error
		if want, _, err = file.Float32("image_" + name); err != nil {
			t.Fatal(err)
		}
	}
	n := len(got.Pix) / 4
	for i := range n {
		if mask.Pix[4*i] != 0 {
			continue
		}
		if !slices.Equal(got.Pix[4*i:4*i+4], picture.Pix[4*i:4*i+4]) {
			t.Fatalf("%s: pixel %d is %v, was %v", name, i, got.Pix[4*i:4*i+4], picture.Pix[4*i:4*i+4])
		}
		for c := range 3 {
			if want != nil {
				got.Pix[4*i+c] = uint8(want[c*n+i]*255 + 0.5)
			}
		}
	}
}

// The encoder of the VAE is opened by the first picture that needs it, once.
func TestVAEEncoderIsOpenedLate(t *testing.T) {
	var opened []string
	b := pipeline.Backend{Network: func(name string, model op.Model, weights *checkpoint.Component) (pipeline.Runner, error) {
		opened = append(opened, name)
		return backend.Network(name, model, weights)
	}}
	e := openFolder(t, tinySD, b, pipeline.EngineConfig{})
	generate(t, e, pipeline.Request{Prompt: prompt, Steps: 2})
	if slices.Contains(opened, "vae_encoder") {
		t.Errorf("opened before it is needed: %v", opened)
	}
	for range 2 {
		generate(t, e, pipeline.Request{Prompt: prompt, Steps: 2, Image: image.NewNRGBA(image.Rect(0, 0, 64, 64))})
	}
	if n := len(opened); n != 4 || opened[3] != "vae_encoder" {
		t.Errorf("opened %v", opened)
	}
}

// A picture's own transparency, a mask's transparency and a mask's white say the same.
func TestMasks(t *testing.T) {
	e := openFolder(t, tinySD, words, pipeline.EngineConfig{})
	hole := image.Rect(16, 16, 48, 40)
	picture, clear, white, holed := image.NewNRGBA(image.Rect(0, 0, 64, 64)), image.NewNRGBA(image.Rect(0, 0, 64, 64)),
		image.NewGray(image.Rect(0, 0, 64, 64)), image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for y := range 64 {
		for x := range 64 {
			c := color.NRGBA{uint8(4 * x), uint8(4 * y), 90, 255}
			picture.SetNRGBA(x, y, c)
			holed.SetNRGBA(x, y, c)
			clear.SetNRGBA(x, y, color.NRGBA{A: 255})
			if (image.Point{x, y}).In(hole) {
				clear.SetNRGBA(x, y, color.NRGBA{})
				white.SetGray(x, y, color.Gray{255})
				holed.SetNRGBA(x, y, color.NRGBA{})
			}
		}
	}
	r := pipeline.Request{Prompt: prompt, Steps: 4, Seed: 5, Image: picture}
	r.Mask = clear
	a := generate(t, e, r)
	r.Mask = white
	b := generate(t, e, r)
	if d := furthest(t, a.Latents.F32, b.Latents.F32); d != 0 {
		t.Errorf("a transparent and a white mask are %g apart", d)
	}
	r.Mask, r.Image = nil, holed
	changed := 0
	for i, c := 0, generate(t, e, r).Image; i < 64*64; i++ {
		same := slices.Equal(c.Pix[4*i:4*i+4], picture.Pix[4*i:4*i+4])
		if inside := (image.Point{i % 64, i / 64}).In(hole); !inside && !same {
			t.Fatalf("pixel %d outside the hole is another", i)
		} else if inside && !same {
			changed++
		}
	}
	r.Mask, r.Image = image.NewGray(picture.Rect), holed
	black := generate(t, e, r)
	r.Mask = white
	if d := furthest(t, generate(t, e, r).Latents.F32, black.Latents.F32); d != 0 {
		t.Errorf("a black mask over a holed picture is %g from a mask of the hole", d)
	}
	if changed < hole.Dx()*hole.Dy()/2 {
		t.Errorf("%d pixels of the hole changed", changed)
	}
}

// Sizes: the picture's own, or near it; an inpainting model needs neither picture nor mask.
func TestImageSizes(t *testing.T) {
	e := openFolder(t, tinyInpaint, words, pipeline.EngineConfig{})
	for size, want := range map[image.Point]image.Point{{64, 96}: {64, 96}, {70, 50}: {64, 48}, {3, 3}: {16, 16}, {4000, 1000}: {128, 32}} {
		got := generate(t, e, pipeline.Request{Prompt: prompt, Steps: 2, Image: image.NewGray(image.Rectangle{Max: size})}).Image.Rect.Size()
		if got != want {
			t.Errorf("a picture of %v becomes one of %v, want %v", size, got, want)
		}
	}
	if got := generate(t, e, pipeline.Request{Prompt: prompt, Steps: 2}).Image.Rect.Size(); got != image.Pt(64, 64) {
		t.Errorf("no picture becomes one of %v", got)
	}
}

func TestBadImages(t *testing.T) {
	e := openFolder(t, tinySD, words, pipeline.EngineConfig{})
	picture := image.NewGray(image.Rect(0, 0, 64, 64))
	for says, r := range map[string]pipeline.Request{
		"mask is given without an image":     {Mask: picture},
		"strength is given without an image": {Strength: 0.5},
		"image is empty":                     {Image: image.NewGray(image.Rectangle{})},
		"the image 64×64":                    {Image: picture, Mask: image.NewGray(image.Rect(0, 0, 64, 32))},
		"strength 1.01":                      {Image: picture, Strength: 1.01},
		"strength -1":                        {Image: picture, Strength: -1},
		"leaves none":                        {Image: picture, Strength: 0.1, Steps: 5},
		"multiple of 16":                     {Image: picture, Width: 72, Height: 64},
	} {
		r.Prompt = prompt
		_, err := e.Generate(context.Background(), r, nil)
		var invalid *pipeline.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one with %q", err, says)
		}
	}
}

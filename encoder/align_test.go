package encoder

import (
	"image"
	"image/color"
	"math"
	"testing"
)

// slope is a picture whose red rises by one each column and whose green by one each row.
func slope(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{uint8(x), uint8(y), 0, 255})
		}
	}
	return img
}

// TestWarp cuts out of a linear slope, where every mean of pixels is exactly the value at their middle.
func TestWarp(t *testing.T) {
	img := slope(240, 240)
	for _, scale := range []float64{0.5, 1, 1.7, 3, 4.4} {
		for _, angle := range []float64{0, 0.3, -0.5} {
			s := similarity{a: scale * math.Cos(angle), b: scale * math.Sin(angle)}
			x, y := s.at(12, 12)
			s.x0, s.y0 = 120-x, 120-y
			out := warp(img, s, 24)
			for _, p := range []image.Point{{0, 0}, {23, 0}, {5, 20}, {12, 12}} {
				x, y := s.at(float64(p.X)+0.5, float64(p.Y)+0.5)
				c := out.RGBAAt(p.X, p.Y)
				if math.Abs(float64(c.R)-(x-0.5)) > 1.5 || math.Abs(float64(c.G)-(y-0.5)) > 1.5 {
					t.Errorf("scale %g, angle %g, %v: got %v, want %.1f, %.1f", scale, angle, p, c, x-0.5, y-0.5)
				}
			}
		}
	}
}

func TestWarpLeavesAnAlignedPhotoAlone(t *testing.T) {
	img := slope(128, 128)
	out := warp(img, centred(img.Rect, 128), 128)
	if string(out.Pix) != string(img.Pix) {
		t.Error("pixels changed")
	}
}

func TestWarpRepeatsTheBorder(t *testing.T) {
	out := warp(slope(40, 20), letterboxed(image.Rect(0, 0, 40, 20), 40), 40)
	if top, bottom := out.RGBAAt(7, 0), out.RGBAAt(7, 39); top.G != 0 || bottom.G != 19 || top.R != 7 {
		t.Errorf("above %v, below %v", top, bottom)
	}
}

func TestReduce(t *testing.T) {
	out := reduce(slope(101, 50), 10)
	if out.Rect != image.Rect(0, 0, 10, 5) {
		t.Fatalf("size %v", out.Rect)
	}
	if c := out.RGBAAt(3, 2); c != (color.RGBA{35, 25, 0, 255}) { // means 34.5 and 24.5, rounded up
		t.Errorf("got %v", c)
	}
	if out := reduce(slope(101, 2), 10); out.Rect != image.Rect(0, 0, 10, 1) {
		t.Errorf("a thin photo became %v", out.Rect)
	}
}

// TestCutOut turns a face's eyes level and puts their middle at the fixed place.
func TestCutOut(t *testing.T) {
	for _, degrees := range []float64{0, 12, -30} {
		angle := degrees * math.Pi / 180
		f := face{centre: point{300, 310}, w: 100, h: 100}
		f.keys[0] = point{300 - 20*math.Cos(angle), 290 - 20*math.Sin(angle)}
		f.keys[1] = point{300 + 20*math.Cos(angle), 290 + 20*math.Sin(angle)}
		s := f.cutOut(portrait, 128)
		if side := f.w / s.scale() / 128; math.Abs(side-portrait.side) > 1e-9 {
			t.Errorf("%g°: the box takes %.3f of the frame", degrees, side)
		}
		box := f.in(s)
		if x, y := s.at(float64(box.Min.X+box.Max.X)/2, float64(box.Min.Y+box.Max.Y)/2); math.Hypot(x-f.centre.x, y-f.centre.y) > s.scale() {
			t.Errorf("%g°: the box %v in the cut-out has its middle at %.1f, %.1f of the photo", degrees, box, x, y)
		}
		if want := f.w / s.scale(); math.Abs(float64(box.Dx())-want) > 1 {
			t.Errorf("%g°: the box %v in the cut-out is not %.1f wide", degrees, box, want)
		}
		half := 20 / s.scale()
		for i, dx := range []float64{-half, half} {
			x, y := s.at(portrait.x*128+dx, portrait.y*128)
			if math.Hypot(x-f.keys[i].x, y-f.keys[i].y) > 1e-6 {
				t.Errorf("%g°: eye %d is taken from %.1f, %.1f, lies at %v", degrees, i, x, y, f.keys[i])
			}
		}
	}
	f := face{w: 10, h: 10}
	f.keys[1] = point{0, 10} // a quarter turn
	if s := f.cutOut(portrait, 128); math.Abs(math.Atan2(s.b, s.a)-mostTilt) > 1e-9 {
		t.Errorf("turned by %g", math.Atan2(s.b, s.a))
	}
}

// A photo taken whole is resized by its shorter side and cut at its centre, however long it is; a large one is averaged first.
func TestWhole(t *testing.T) {
	in := NewIntake(IntakeConfig{Size: 24, Cut: Whole})
	for _, size := range []image.Point{{48, 96}, {96, 48}, {24, 30}, {7, 7}, {5000, 4}, {4, 5000}, {2100, 2200}} {
		img := image.NewRGBA(image.Rectangle{Max: size})
		for i := range img.Pix {
			img.Pix[i] = 255
		}
		for y := range size.Y { // a dark half, whose edge is the middle
			for x := range size.X / 2 {
				img.SetRGBA(x, y, color.RGBA{0, 0, 0, 255})
			}
		}
		photo, err := in.Align(t.Context(), img, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := photo.Image; got.Rect != image.Rect(0, 0, 24, 24) || !got.Opaque() {
			t.Fatalf("%v became %v", size, got.Rect)
		}
		dark, light := 0, 0
		for x := range 24 {
			switch c := photo.Image.RGBAAt(x, 13); {
			case c.R < 64:
				dark++
			case c.R > 192:
				light++
			}
		}
		if dark < 7 || light < 7 || dark-light > 4 || light-dark > 6 {
			t.Errorf("%v: %d dark and %d light columns of 24, want about half each", size, dark, light)
		}
	}
	turned, err := in.Align(t.Context(), slope(40, 20), 6) // a quarter turn
	if err != nil {
		t.Fatal(err)
	}
	if a, b := turned.Image.RGBAAt(12, 2), turned.Image.RGBAAt(12, 20); a.R >= b.R {
		t.Errorf("the photo was not turned upright: red %d above %d", a.R, b.R)
	}
}

// A face is cut out so that its eyes, nose and mouth lie where ArcFace's do, as near as turning, scaling and moving get them.
func TestArcFace(t *testing.T) {
	for _, want := range []similarity{{a: 1}, {a: 2.5, x0: 40, y0: -7}, {a: 1.2, b: 0.9, x0: 300, y0: 200}} {
		var f face
		for i, p := range arcFace {
			x, y := want.at(2*p.x, 2*p.y) // of a cut-out of 224 pixels
			f.keys[i] = point{x, y}
		}
		if got := f.arcFace(224); !got.near(want, 224, 1e-9) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	f := face{keys: [6]point{{130, 100}, {170, 104}, {150, 120}, {148, 146}}} // no exact fit
	s := f.arcFace(112)
	var x, y float64
	for i, p := range arcFace {
		px, py := s.at(p.x, p.y)
		x, y = x+px-f.keys[i].x, y+py-f.keys[i].y
		if math.Hypot(px-f.keys[i].x, py-f.keys[i].y) > 4 {
			t.Errorf("keypoint %d is at %.1f, %.1f, want it near %v", i, px, py, f.keys[i])
		}
	}
	if math.Hypot(x, y) > 1e-9 {
		t.Errorf("the keypoints are off by %.2f, %.2f together", x, y)
	}
}

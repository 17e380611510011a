package evaluate

import (
	"image"
	"image/color"
	"math"
	"testing"

	"likeness/training/portraits"
)

// painted is a picture of the given side with grey levels by place.
func painted(side int, level func(x, y int) float64) image.Image {
	img := image.NewGray(image.Rect(0, 0, side, side))
	for i := range img.Pix {
		img.Pix[i] = uint8(level(i%side, i/side))
	}
	return img
}

func plain(level float64) image.Image {
	return painted(128, func(int, int) float64 { return level })
}

// checkered has the mean 128 and the standard deviation contrast in every window.
func checkered(contrast float64) image.Image {
	return painted(128, func(x, y int) float64 { return 128 + contrast*float64(1-2*((x+y)%2)) })
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %.6f, want %.6f", what, got, want)
	}
}

const c1, c2 = 2.55 * 2.55, 7.65 * 7.65

func TestStructuralSimilarity(t *testing.T) {
	portrait := clone(portraits.NewRenderer().Draw(portraits.Test.Identity(1), portraits.Context{}))
	near(t, "of a picture and itself", ssim(portrait, portrait), 1, 1e-12)
	near(t, "of plain pictures", ssim(plain(50), plain(200)), (2*50*200+c1)/(50*50+200*200+c1), 1e-9)
	near(t, "of two contrasts", ssim(checkered(10), checkered(40)), (2*10*40+c2)/(10*10+40*40+c2), 1e-3)
	near(t, "of a picture and its negative", ssim(checkered(40), checkered(-40)), (-2*40*40+c2)/(2*40*40+c2), 1e-3)
	if a, b := ssim(portrait, checkered(40)), ssim(checkered(40), portrait); a != b || !(a < 0.5) {
		t.Errorf("of a portrait and a pattern %g, the other way round %g", a, b)
	}
}

func TestMultiscaleSimilarity(t *testing.T) {
	portrait := clone(portraits.NewRenderer().Draw(portraits.Test.Identity(1), portraits.Context{}))
	near(t, "of a picture and itself", multiscale(portrait, portrait), 1, 1e-12)
	near(t, "of plain pictures", multiscale(plain(50), plain(200)), math.Pow((2*50*200+c1)/(50*50+200*200+c1), 0.1333), 1e-9)
	// From the second scale on a checkerboard is plain: contrast counts on the first alone.
	near(t, "of two contrasts", multiscale(checkered(10), checkered(40)), math.Pow((2*10*40+c2)/(10*10+40*40+c2), 0.0448), 1e-3)
	near(t, "of a picture and its negative", multiscale(checkered(40), checkered(-40)), 0, 0)
}

func TestDiversityIsTheMeanOverPairs(t *testing.T) {
	near(t, "of one picture", diversity([]image.Image{plain(3)}), 0, 0)
	near(t, "of equal pictures", diversity([]image.Image{plain(3), plain(3), plain(3)}), 0, 1e-12)
	apart := 1 - math.Pow((2*50*200+c1)/(50*50+200*200+c1), 0.1333)
	near(t, "of two and one", diversity([]image.Image{plain(50), plain(200), plain(50)}), 2*apart/3, 1e-9)
}

// The window is a weighted mean, and planes too small for it have a smaller one.
func TestWindow(t *testing.T) {
	for _, side := range []int{40, 8, 1} {
		got := luminance(painted(side, func(x, y int) float64 { return 7 })).windowed()
		if want := max(side-windowSide+1, 1); got.w != want || got.h != want {
			t.Errorf("side %d: windows of %d×%d places", side, got.w, got.h)
		}
		near(t, "of a plain plane", got.values[0], 7, 1e-12)
	}
	spot := luminance(painted(11, func(x, y int) float64 { return map[bool]float64{true: 255}[x == 5 && y == 5] })).windowed()
	sum := 0.0
	for i := -5; i <= 5; i++ {
		sum += math.Exp(-float64(i*i) / 4.5)
	}
	near(t, "the weight in the middle", spot.values[0]/255, 1/(sum*sum), 1e-12)
}

// Luminance is that of ITU-R BT.601.
func TestLuminance(t *testing.T) {
	img := image.NewRGBA(image.Rect(3, 4, 5, 5))
	img.Set(3, 4, color.RGBA{200, 0, 0, 255})
	img.Set(4, 4, color.RGBA{0, 100, 50, 255})
	l := luminance(img)
	near(t, "red", l.values[0], 0.299*200, 1)
	near(t, "green and blue", l.values[1], 0.587*100+0.114*50, 1)
}

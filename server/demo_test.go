package main

import (
	"fmt"
	"image"
	"image/png"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
)

// demoPack is the bundled model.
const demoPack = "../models/demo"

// With the bundled model a sample face becomes pictures, in a few clicks.
func TestDemoOnThePage(t *testing.T) {
	p := openPage(t, serve(t, demoPack), 1280, 1000, false)
	p.click("#sample-list button")
	p.until("the sample is chosen", `document.querySelectorAll("#chosen img").length === 1`)
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept")`)
	p.wantText(".concept", "Ada", "<me>", "made in")
	for _, chip := range []int{1, 3} {
		p.click(fmt.Sprintf("#chips button:nth-child(%d)", chip))
		if got := value[string](p, `document.querySelector("#prompt").value`); !strings.Contains(got, "<me>") {
			t.Errorf("the prompt is %q", got)
		}
		p.click("#generate")
		p.until("four pictures are there", fmt.Sprintf(finished, 4))
	}
	p.wantText("#state", "4 pictures in")
	p.run("scroll up", script("window.scrollTo(0, 0)"))
	p.shot("demo")
}

// The pictures follow the concept: another face, or a strength of 0, gives another picture of the same seed and prompt.
func TestDemoConceptsMatter(t *testing.T) {
	url := serve(t, demoPack)
	pictures := map[string]image.Image{}
	for word, name := range map[string]string{"ada": "ada.png", "bruno": "bruno.png"} {
		photo, err := os.ReadFile(sample(t, name))
		if err != nil {
			t.Fatal(err)
		}
		status, made := upload(t, url, word, photo)
		if status != http.StatusCreated {
			t.Fatal(status, made)
		}
		if bytes := made["bytes"].(float64); bytes > 32<<10 {
			t.Errorf("a concept has %v bytes", bytes)
		}
		pictures[word] = drawn(t, url, fmt.Sprintf(`"prompt":"an illustration of <%s> wearing a crown"`, word))
	}
	pictures["none"] = drawn(t, url, `"prompt":"an illustration of <ada:0> wearing a crown"`)
	for _, pair := range [][2]string{{"ada", "bruno"}, {"ada", "none"}, {"bruno", "none"}} {
		if d := distance(pictures[pair[0]], pictures[pair[1]]); d < 4 {
			t.Errorf("%s and %s differ by %.1f grey levels", pair[0], pair[1], d)
		}
	}
}

func drawn(t *testing.T, url, fields string) image.Image {
	t.Helper()
	status, answer := post(t, url+"/v1/images/generations", "application/json", []byte(`{"seed":1,"response_format":"url",`+fields+`}`))
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	file := fetch(t, answer["data"].([]any)[0].(map[string]any)["url"].(string))
	img, err := png.Decode(strings.NewReader(file))
	if err != nil || img.Bounds().Size() != image.Pt(128, 128) {
		t.Fatal(img.Bounds(), err)
	}
	return img
}

// distance is the root mean square of the differences, in levels of 0…255.
func distance(a, b image.Image) float64 {
	sum := 0.0
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r, g, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			for _, d := range []float64{float64(r) - float64(r2), float64(g) - float64(g2), float64(b1) - float64(b2)} {
				sum += d * d / (257 * 257)
			}
		}
	}
	return math.Sqrt(sum / float64(3*a.Bounds().Dx()*a.Bounds().Dy()))
}

package main

import (
	"fmt"
	"image"
	"image/color"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// keepPixels and comparePixels hold a picture against a former one, in the browser: how many pixels within and beyond a distance of
// the middle row's painted part are others.
const (
	keepPixels = `window.pixelsOf = (image) => {
		const sheet = document.createElement("canvas");
		[sheet.width, sheet.height] = [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];
		const pen = sheet.getContext("2d", { willReadFrequently: true });
		pen.drawImage(image, 0, 0);
		return pen.getImageData(0, 0, sheet.width, sheet.height);
	}; window.before = pixelsOf(document.querySelector("#edit-picture")); null`
	comparePixels = `(() => {
		const after = pixelsOf(document.querySelector(".tile img")), { width: w, height: h, data } = window.before;
		if (after.width !== w || after.height !== h) return [-1, -1];
		let inside = 0, outside = 0;
		for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
			const i = 4 * (y * w + x);
			if ([0, 1, 2, 3].every((c) => data[i + c] === after.data[i + c])) continue;
			const nearest = Math.min(Math.max(x + 0.5, 0.3 * w), 0.7 * w);
			if (Math.hypot(x + 0.5 - nearest, y + 0.5 - 0.5 * h) < 0.1 * w + 1.5) inside++; else outside++;
		}
		return [inside, outside];
	})()`
)

// onMask are the window's coordinates of a place on the mask, in shares of its sides.
func (p *page) onMask(x, y float64) (float64, float64) {
	p.t.Helper()
	at := value[[]float64](p, fmt.Sprintf(`(() => {
		const mask = document.querySelector("#edit-mask");
		mask.scrollIntoView({ block: "center", behavior: "instant" });
		const box = mask.getBoundingClientRect();
		return [box.left + %g * box.width, box.top + %g * box.height];
	})()`, x, y))
	return at[0], at[1]
}

// sweep paints from one place of the middle row to another, by mouse or by finger.
func (p *page) sweep(from, to float64, touch bool) {
	p.t.Helper()
	for i := range 6 {
		x, y := p.onMask(from+(to-from)*float64(i)/5, 0.5)
		var action chromedp.Action[chromedp.Void]
		switch typ := input.DispatchTouchEventTypeTouchMove; {
		case touch:
			if i == 0 {
				typ = input.DispatchTouchEventTypeTouchStart
			}
			action = command(input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: typ, TouchPoints: []*input.TouchPoint{{X: x, Y: y}}})
		case i == 0:
			action = chromedp.MouseEvent(chromedp.MousePressed, x, y, chromedp.ButtonLeft)
		default:
			action = chromedp.MouseEvent(chromedp.MouseMoved, x, y, chromedp.ButtonLeft)
		}
		p.run("paint", action)
	}
	x, y := p.onMask(to, 0.5)
	if touch {
		p.run("lift the finger", command(input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchEnd, TouchPoints: []*input.TouchPoint{}}))
	} else {
		p.run("release", chromedp.MouseEvent(chromedp.MouseReleased, x, y, chromedp.ButtonLeft))
	}
}

// editTile opens the first tile in the editor, by a key: the page may still be scrolling there, and a click would miss.
func (p *page) editTile() {
	p.t.Helper()
	p.run("focus its button", script(`document.querySelector(".tile .bar button").focus()`))
	p.key(kb.Enter)
}

func (p *page) wantRepainted() {
	p.t.Helper()
	p.until("the tile has its picture", `document.querySelector(".tile img").complete`)
	if got := value[[]int](p, comparePixels); got[0] < 100 || got[1] != 0 {
		p.t.Errorf("%d pixels under the mask changed, %d beside it", got[0], got[1])
	}
}

// A mask is painted over a result, and a concept drawn into it; what is not painted stays, to the pixel.
func TestInpainting(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 1280, 900, false)
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{sample(t, "ada.png")}))
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept")`)
	p.run("one picture, and a short walk", script(`document.querySelector("#count").value = 1; document.querySelector("#steps").value = 4; document.querySelector("#seed").value = 3`))
	p.fill("#prompt", "hi")
	p.click("#generate")
	p.until("a picture is there", fmt.Sprintf(finished, 1))
	p.editTile()
	p.until("it is in the editor", `!document.querySelector("#edit").hidden && document.activeElement.id === "edit-mask"`)
	p.wantText("#edit-hint", "whole picture")
	p.run("keep it", script(keepPixels))
	p.sweep(0.3, 0.7, false)
	p.wantText("#edit-hint", "the rest stays")
	p.wantText("#change-value", "100 %")
	p.fits("with a mask")
	p.shot("10-mask")
	p.fill("#prompt", "<me> hi")
	p.click("#generate")
	p.until("a picture of the edit is there", fmt.Sprintf(finished, 1)+` && document.querySelectorAll("#runs li").length === 1`)
	p.wantRepainted()
	p.shot("11-inpainted")

	p.click(".tile .view")
	p.until("the viewer is open", `document.querySelector("#viewer").open`)
	p.click("#viewer-edit")
	p.until("the mask is gone", `!document.querySelector("#viewer").open && document.querySelector("#undo").disabled`)
	p.click("#edit-close")
	p.until("it is closed", `document.querySelector("#edit").hidden && document.activeElement.id === "prompt"`)
}

// A picture of one's own is opened, painted and undone without a mouse.
func TestInpaintingByKeyboard(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 1280, 900, true)
	own := image.NewNRGBA(image.Rect(0, 0, 96, 64))
	for i := range 96 * 64 {
		own.SetNRGBA(i%96, i/96, color.NRGBA{uint8(2 * (i % 96)), uint8(3 * (i / 96)), 90, 255})
	}
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#edit-file"), []string{writeTestPNG(t, "own.png", own)}))
	p.until("it is in the editor", `document.activeElement.id === "edit-mask"`)
	p.run("a way to read it", script(keepPixels))
	painted := func(n int) {
		t.Helper()
		ink := value[int](p, `pixelsOf(document.querySelector("#edit-mask")).data.filter((v, i) => i % 4 === 3 && v > 127).length`)
		if (ink > 0) != (n > 0) || value[bool](p, `document.querySelector("#undo").disabled`) != (n == 0) {
			t.Errorf("%d pixels are painted after %d strokes", ink, n)
		}
	}
	p.key(" ")
	p.key(kb.ArrowRight, chromedp.KeyModifiers(chromedp.ModifierShift))
	painted(2)
	p.key("z", chromedp.KeyModifiers(chromedp.ModifierCtrl))
	painted(1)
	p.tabTo("#brush")
	p.key(kb.ArrowRight)
	p.wantText("#brush-value", "21 %")
	p.tabTo("#clear")
	p.key(kb.Enter)
	painted(0)
	p.until("the mask has the focus", `document.activeElement.id === "edit-mask"`)
	p.shot("12-editor-dark")
	p.run("a short walk", script(`document.querySelector("#count").value = 2; document.querySelector("#steps").value = 5`))
	p.fill("#prompt", "hi")
	p.key(kb.Enter)
	p.until("two pictures are there", fmt.Sprintf(finished, 2))
	if got := value[[]int](p, `[document.querySelector(".tile img").naturalWidth, document.querySelector(".tile img").naturalHeight]`); got[0] != 96 || got[1] != 64 {
		t.Errorf("the picture became one of %v", got)
	}
}

// On a phone the mask is painted with a finger, and nothing is wider than the window.
func TestInpaintingOnAPhone(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 390, 844, false)
	p.run("one picture, and a short walk", script(`document.querySelector("#count").value = 1; document.querySelector("#steps").value = 4`))
	p.fill("#prompt", "hi")
	p.click("#generate")
	p.until("a picture is there", fmt.Sprintf(finished, 1))
	p.editTile()
	p.until("it is in the editor", `!document.querySelector("#edit").hidden`)
	p.run("keep it", script(keepPixels))
	p.sweep(0.3, 0.7, true)
	p.fits("with a mask")
	p.shot("13-phone-mask")
	p.click("#generate")
	p.until("a picture of the edit is there", fmt.Sprintf(finished, 1)+` && document.querySelectorAll("#runs li").length === 1`)
	p.wantRepainted()
	p.fits("with an edited picture")
}

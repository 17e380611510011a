package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// sample is a photo to upload.
func sample(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "web", "samples", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

const finished = `document.querySelectorAll(".tile").length === %d && document.querySelectorAll(".tile.forming").length === 0 && document.querySelector("#cancel").hidden`

// Upload, prompt, four pictures, downloads, rename, a second run, delete.
func TestPage(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 1280, 900, false)
	p.wantText("#concepts-empty", "None yet")
	p.wantText("#nothing", "Your pictures appear here")
	p.fits("at the start")
	p.shot("1-start")
	if !value[bool](p, `document.querySelector("#make").disabled`) {
		t.Error("a concept of no photos can be made")
	}
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{sample(t, "ada.png"), sample(t, "bruno.png")}))
	p.until("two photos are shown", `document.querySelectorAll("#chosen img").length === 2`)
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept")`)
	p.wantText(".concept", "<me>", "made in", "2 photos", "KB")
	if got := value[string](p, `document.querySelector("#prompt").value`); !strings.Contains(got, "<me>") {
		t.Errorf("the prompt is %q", got)
	}
	if got := value[string](p, `document.querySelector("#word").value`); got != "me2" {
		t.Errorf("the next word is %q", got)
	}
	p.fill("#prompt", "<me> hi")
	p.click("#generate")
	p.until("four pictures are there", fmt.Sprintf(finished, 4))
	p.wantText("#state", "4 pictures in")
	p.fits("with pictures")
	p.shot("2-pictures")
	checkDownloads(p)

	p.click(".concept .rename")
	p.fill(`.concept input[name="name"]`, "Ada Lovelace")
	p.fill(`.concept input[name="word"]`, "ada")
	p.shot("3-rename")
	p.key(kb.Enter)
	p.until("it has its new name", `document.querySelector(".concept .name")?.textContent === "Ada Lovelace"`)
	p.wantText(".concept", "<ada>")
	if got := value[string](p, `document.querySelector("#prompt").value`); got != "<ada> hi" {
		t.Errorf("the prompt is %q", got)
	}
	p.run("choose the fastest", script(`document.querySelector("#speed").value = "3"; import("./js/prompt.js").then((m) => { window.asked = m.readRequest() })`))
	p.until("the speed is asked for", `window.asked?.cache_interval === 3`)
	p.click("#generate")
	p.until("the first run is in the gallery", fmt.Sprintf(finished, 4)+` && document.querySelectorAll("#runs .thumbs img").length === 4`)
	p.click(".tile .view")
	p.until("the viewer is open", `document.querySelector("#viewer").open && document.querySelector("#viewer-image").complete`)
	p.shot("4-viewer")
	p.key(kb.ArrowRight)
	p.key(kb.Escape)
	p.until("it is closed", `!document.querySelector("#viewer").open`)

	p.click(".concept .delete")
	p.until("it asks", `document.querySelector(".concept .tools .danger")?.textContent.includes("for good")`)
	p.click(".concept .tools .danger")
	p.until("it is gone", `document.querySelectorAll(".concept").length === 0`)
	p.wantText("#concepts-empty", "None yet")
	p.run("load again", chromedp.Reload())
	p.until("it stays away", `document.querySelector("#concepts-empty") && !document.querySelector("#concepts-empty").hidden`)
}

// checkDownloads saves one picture and all of them, and reads the files.
func checkDownloads(p *page) {
	p.t.Helper()
	dir := p.t.TempDir()
	p.run("allow downloads", command(browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir}))
	p.click(".tile .bar a")
	p.click("#download-all")
	read := func(pattern string) []byte {
		for range 300 {
			if names, _ := filepath.Glob(filepath.Join(dir, pattern)); len(names) == 1 {
				if data, err := os.ReadFile(names[0]); err == nil && len(data) > 0 {
					return data
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		p.t.Fatalf("no download %s", pattern)
		return nil
	}
	one := read("likeness-*.png")
	if _, err := png.Decode(bytes.NewReader(one)); err != nil {
		p.t.Error(err)
	}
	all := read("likeness.zip")
	archive, err := zip.NewReader(bytes.NewReader(all), int64(len(all)))
	if err != nil || len(archive.File) != 4 {
		p.t.Fatalf("archive: %v", err)
	}
	for i, entry := range archive.File {
		file, err := entry.Open()
		if err != nil {
			p.t.Fatal(err)
		}
		data, err := io.ReadAll(file) // which checks the checksum
		if _, pngErr := png.Decode(bytes.NewReader(data)); err != nil || pngErr != nil {
			p.t.Errorf("%s: %v, %v", entry.Name, err, pngErr)
		}
		if i == 0 && !bytes.Equal(data, one) {
			p.t.Error("the archive has another first picture")
		}
	}
}

// Everything can be done without a mouse.
func TestKeyboardAlone(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 1280, 900, true)
	p.tabTo(".skip")
	p.tabTo("#files")
	p.tabTo("#sample-list button:nth-child(2)")
	p.key(" ")
	p.until("the sample is chosen", `document.querySelector("#sample-list button:nth-child(2)").getAttribute("aria-pressed") === "true" && document.activeElement.id === "word"`)
	p.key(kb.Enter)
	p.until("the concept is there and the prompt has the focus", `document.querySelector(".concept") && document.activeElement.id === "prompt"`)
	p.run("select all", script(`document.activeElement.select()`))
	p.key("<me> hi")
	p.tabTo("summary")
	p.key(kb.Enter)
	p.tabTo("#count")
	p.key(kb.ArrowDown)
	p.key(kb.ArrowDown)
	p.tabTo("#seed")
	p.key("7")
	p.shot("5-settings-dark")
	p.tabTo("#generate")
	p.key(kb.Enter)
	p.until("two pictures are there", fmt.Sprintf(finished, 2))
	p.wantText(".tile", "seed 7")
	p.tabTo(".tile .view")
	p.key(kb.Enter)
	p.until("the viewer is open", `document.querySelector("#viewer").open`)
	p.key(kb.Escape)
	p.until("the focus is back", `document.activeElement.matches(".tile .view")`)
	p.shot("6-dark")
	p.run("from the top", script(`document.querySelector(".concept .use").focus()`))
	p.tabTo(".concept .delete")
	p.key(kb.Enter)
	p.until("Keep has the focus", `document.activeElement.textContent === "Keep"`)
	p.key(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)) // shift
	p.key(kb.Enter)
	p.until("it is gone", `document.querySelectorAll(".concept").length === 0`)
}

// A phone's width needs no sideways scrolling, at any stage.
func TestPhone(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 390, 844, false)
	p.fits("at the start")
	p.shot("7-phone-start")
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{sample(t, "ada.png"), sample(t, "bruno.png"), sample(t, "dana.png"), sample(t, "emil.png")}))
	p.fill("#word", "a-word-of-thirty-two-characters-")
	p.fits("with four photos")
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept")`)
	p.click("summary")
	p.fits("with a concept of a long word")
	p.click(".concept .rename")
	p.fill(`.concept input[name="name"]`, strings.Repeat("Wolfeschlegelstein", 3))
	p.fits("while renaming")
	p.key(kb.Enter)
	p.until("it has its new name", `document.querySelector(".concept .name")?.textContent.startsWith("Wolfe")`)
	p.fill("#prompt", "hi")
	p.click("#generate")
	p.until("four pictures are there", fmt.Sprintf(finished, 4))
	p.fits("with pictures")
	p.shot("8-phone-pictures")
}

// Mistakes are explained, and the page goes on.
func TestMistakes(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 1280, 900, false)
	p.allowed = []string{"status of 4"} // answers to what is wrong below
	bad := filepath.Join(t.TempDir(), "broken.png")
	if err := os.WriteFile(bad, []byte("\x89PNG\r\n\x1a\nnot really"), 0o644); err != nil {
		t.Fatal(err)
	}
	choose := func(paths ...string) {
		t.Helper()
		p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#files"), paths))
	}
	alert := func(says string) {
		t.Helper()
		p.until("an alert says "+says, fmt.Sprintf(`[...document.querySelectorAll('.toast[role="alert"]')].some((e) => e.textContent.includes(%q))`, says))
	}
	choose(bad)
	p.click("#make")
	alert("damaged")
	p.click("#chosen button")
	p.until("it is removed", `document.querySelectorAll("#chosen img").length === 0`)
	choose(sample(t, "ada.png"))
	p.fill("#word", "My Face")
	p.click("#make")
	alert("small letters")
	p.fill("#word", "me")
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept")`)
	p.fill("#prompt", "<someone> hi")
	p.click("#generate")
	alert("<someone>")
	p.fill("#prompt", strings.Repeat("this prompt is far longer than what is read ", 8)+"<me>")
	p.click("#generate")
	alert("too long")
	p.shot("9-alerts")
	if value[bool](p, `!document.querySelector("#result").hidden`) {
		t.Error("a result of nothing is shown")
	}
	p.fill("#prompt", "<me> hi")
	p.run("cancel at once", script(`document.querySelector("#steps").value = 50; document.querySelector("#draw").requestSubmit(); document.querySelector("#cancel").click()`))
	p.until("it is cancelled", `document.querySelector("#state").textContent === "Cancelled" && !document.querySelector("#generate").disabled`)
	p.click("#generate")
	p.until("four pictures are there", fmt.Sprintf(finished, 4))
}

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"likeness/encoder/concept"
	"likeness/server/api"
	"likeness/server/config"
	"likeness/server/jobs"
	"likeness/server/jobs/jobstest"
	"likeness/training/protocol"
)

// serveRefining serves a tiny model with a worker that does what the acts say.
func serveRefining(t *testing.T, acts ...string) string {
	t.Helper()
	url, _ := serveModel(t, config.Model{Model: tinyPack(t), Threads: 2}, func(c *api.Config, m *model) {
		words := concept.Embeddings{Layers: 1, Vectors: 1, Width: m.base.WordWidth(), Data: make([]float32, m.base.WordWidth())}
		for i := range words.Data {
			words.Data[i] = 3
		}
		worker := jobstest.New(t, &concept.Concept{Word: "any", Class: "face", Method: "quick", BaseModel: c.Model.BaseModel, Encoder: c.Model.Encoder,
			Created: time.Now().UTC(), WordEmbeddings: words}, acts...)
		c.Jobs = jobs.New(jobs.Config{Store: c.Store, Worker: worker.Path, Env: worker.Env, Log: c.Log, Check: func(learned *concept.Concept) error {
			_, err := m.Subject(learned, 1)
			return err
		}})
		t.Cleanup(func() { c.Jobs.Close() })
	})
	return url
}

// A concept is refined with its curve live, looked at before and after, and brought back.
func TestRefine(t *testing.T) {
	p := openPage(t, serveRefining(t, jobstest.Crash), 1280, 1000, false)
	p.allowed = []string{"status of 400"} // the answer to what is wrong below
	p.click("#sample-list button")
	p.until("the sample is chosen", `document.querySelectorAll("#chosen img").length === 1`)
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept .refine")`)
	p.fill("#prompt", "<me> hi")
	p.click(".concept .refine")
	p.until("the dialog is open", fmt.Sprintf(`document.querySelector("#refine").open && document.querySelectorAll("#refine-method option").length === %d`, len(protocol.Methods)))
	p.wantText("#refine-help", "It "+protocol.Quick.Help+".")
	p.wantText("#refine-photos", "1 photo")
	const choose = `(() => { const m = document.querySelector("#refine-method"); m.value = %q; m.dispatchEvent(new Event("change")); return document.querySelector("#refine-text-label").hidden; })()`
	if value[bool](p, fmt.Sprintf(choose, protocol.LoRA.Name)) || !value[bool](p, fmt.Sprintf(choose, protocol.Quick.Name)) {
		t.Error("the text encoder is not offered with lora, or is with quick")
	}
	p.click("#refine .more summary")
	p.fill("#refine-resolution", "100")
	p.click("#refine-start")
	p.until("the resolution is refused", `document.querySelector("#refine-state").textContent.includes("must be a multiple of")`)
	p.fill("#refine-resolution", "64")
	p.click("#refine-memory")
	p.fill("#refine-steps", "6")
	p.click("#refine-start")
	p.until("it is refined, by the second worker", `document.querySelector("#refine-state").textContent.startsWith("Refined") && document.querySelectorAll("#refine-pictures img:not([hidden])").length === 3`)
	p.wantText("#refine-state", "the best of 6 steps was 6")
	if points := value[string](p, `document.querySelector("#refine-curve .held").getAttribute("points")`); len(strings.Fields(points)) != 6 {
		t.Errorf("the curve has the points %q", points)
	}
	p.wantText("#refine-curve", "loss 0.1667", "best at step 6")
	if value[bool](p, `document.querySelector("#refine-pictures figure img").src === document.querySelector("#refine-pictures figure:last-child img").src`) {
		t.Error("the pictures before and after are the same")
	}
	p.until("there are two versions", `document.querySelectorAll("#versions li").length === 2`)
	p.wantText("#versions", "Version 2 · quick", "in use", "Version 1 · encoder", "Restore")
	p.wantText(".concept .facts", "version 2")
	p.fits("with the refined concept")
	p.shot("9-refined")
	p.click("#versions button")
	p.until("the first is in use again", `document.querySelector("#refine-state").textContent === "Version 1 is in use" && !document.querySelector(".concept .facts").textContent.includes("version")`)
	p.key(kb.Escape)
	p.until("the dialog is closed", `!document.querySelector("#refine").open`)
	p.click("#generate")
	p.until("pictures are drawn", fmt.Sprintf(finished, 4))
}

// A refining is stopped, one that fails says why, and both leave the page as it was; on a phone too.
func TestRefineStopsAndFails(t *testing.T) {
	p := openPage(t, serveRefining(t, jobstest.Slow, jobstest.Refuse), 390, 844, true)
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{sample(t, "ada.png")}))
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept .refine")`)
	p.run("load again", chromedp.Reload())
	p.until("the concept is there again", `document.querySelector(".concept .refine")`)
	p.click(".concept .refine")
	p.until("photos are asked for", `document.querySelector("#refine").open && document.querySelector("#refine-start").disabled`)
	p.wantText("#refine-photos", "One to 20 photos")
	p.run("choose", chromedp.SetUploadFiles(chromedp.CSS("#refine-files"), []string{sample(t, "ada.png"), sample(t, "bruno.png")}))
	p.until("two photos are there", `document.querySelector("#refine-photos").textContent === "2 photos"`)
	p.click("#refine-start")
	p.until("it runs", `document.querySelector("#refine-state").textContent.startsWith("Step")`)
	p.fits("while it runs")
	p.shot("10-refining-phone")
	p.key(kb.Escape)
	p.click(".concept .refine") // and it goes on
	p.until("the dialog is open again", `document.querySelector("#refine").open && !document.querySelector("#refine-stop").hidden`)
	p.click("#refine-stop")
	p.until("it is stopped", `document.querySelector("#refine-state").textContent === "Stopped" && !document.querySelector("#refine-start").disabled`)
	p.click("#refine-start")
	p.until("it fails", `document.querySelector("#refine-state").textContent === "Failed: no, thank you" && !document.querySelector("#refine-start").disabled`)
	if !value[bool](p, `document.querySelector("#refine-versions").hidden`) {
		t.Error("there are versions of what never changed")
	}
}

// Without a worker there is nothing to refine with.
func TestNoRefining(t *testing.T) {
	p := openPage(t, serve(t, tinyPack(t)), 1280, 900, false)
	p.click("#sample-list button")
	p.until("the sample is chosen", `document.querySelectorAll("#chosen img").length === 1`)
	p.click("#make")
	p.until("the concept is there", `document.querySelector(".concept .rename")`)
	if value[bool](p, `document.querySelector(".concept .refine") !== null`) {
		t.Error("a concept can be refined")
	}
}

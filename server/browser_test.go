package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// page is a tab of a real Chromium that shows the server's page. Whatever it complains about fails the test.
type page struct {
	t        *testing.T
	ctx      context.Context
	mu       sync.Mutex
	troubles []string
	allowed  []string // parts of complaints that the test brings about itself
}

// patience bounds one action, on a busy machine.
const patience = 60 * time.Second

func openPage(t *testing.T, url string, width, height int64, dark bool) *page {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(patience))
	allocated, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(func() { chromedp.Cancel(ctx); cancel() })
	p := &page{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, func(event any) { p.listen(url, event) }); err != nil {
		t.Fatalf("chromium does not start: run scripts/test, or apt-get install chromium: %v", err)
	}
	t.Cleanup(p.complain)
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.run("open the page", command(log.Enable, cdp.Empty{}), command(network.Enable, network.EnableParams{}), chromedp.EmulateViewport(width, height),
		command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}),
		chromedp.Navigate(url))
	p.until("the page has loaded", `document.querySelector("#model").textContent !== "…" && !document.querySelector("#concepts").hasAttribute("aria-busy")`)
	return p
}

// command is a command of the browser as an action.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// listen collects what a user would find in the console, and requests to other places.
func (p *page) listen(url string, event any) {
	trouble := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		trouble = e.ExceptionDetails.Text + " " + e.ExceptionDetails.URL
		if x := e.ExceptionDetails.Exception; x != nil {
			trouble += " " + x.Description
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			trouble = e.Entry.Text + " " + e.Entry.URL
		}
	case *network.EventRequestWillBeSent:
		if to := e.Request.URL; !strings.HasPrefix(to, url) && !strings.HasPrefix(to, "data:") && !strings.HasPrefix(to, "blob:") {
			trouble = "a request to " + to
		}
	}
	if trouble != "" {
		p.mu.Lock()
		p.troubles = append(p.troubles, trouble)
		p.mu.Unlock()
	}
}

func (p *page) complain() {
	p.mu.Lock()
	defer p.mu.Unlock()
trouble:
	for _, trouble := range p.troubles {
		for _, part := range p.allowed {
			if strings.Contains(trouble, part) {
				continue trouble
			}
		}
		p.t.Errorf("the browser complains: %s", trouble)
	}
}

func (p *page) run(what string, actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.shot("failed")
		p.t.Fatalf("%s: %v; state %q, messages %q", what, err, p.text("#state"), p.text("#toasts"))
	}
}

// do is an action whose value is of no interest.
func do[T any](a chromedp.Action[T]) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := a(ctx, t)
		return err
	})
}

// script runs JavaScript.
func script(source string) chromedp.Action[chromedp.Void] {
	return do(chromedp.Evaluate[any](source + "; null"))
}

// until waits for a JavaScript expression to hold.
func (p *page) until(what, expression string) {
	p.t.Helper()
	p.run(what, do(chromedp.Poll[bool]("!!("+expression+")", chromedp.WithPollingTimeout(patience))))
}

func (p *page) click(selector string) {
	p.t.Helper()
	p.run("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// fill replaces the text of a field as a user does.
func (p *page) fill(selector, text string) {
	p.t.Helper()
	p.run("fill "+selector, chromedp.Focus(chromedp.CSS(selector)), script(fmt.Sprintf("document.querySelector(%q).select()", selector)),
		chromedp.KeyEvent(text))
}

// value is what a JavaScript expression gives.
func value[T any](p *page, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (p *page) text(selector string) string {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
	if err != nil {
		return err.Error()
	}
	return text
}

// wantText fails the test if an element does not say something.
func (p *page) wantText(selector string, says ...string) {
	p.t.Helper()
	text := p.text(selector)
	for _, want := range says {
		if !strings.Contains(text, want) {
			p.t.Errorf("%s says %q, not %q", selector, text, want)
		}
	}
}

// shot keeps a picture of the whole page (go test -artifacts -outputdir DIR).
func (p *page) shot(name string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(p.t.ArtifactDir(), name+".png"), png, 0o644)
	}
	if err != nil {
		p.t.Errorf("screenshot: %v", err)
	}
}

// fits fails the test if the page is wider than its window.
func (p *page) fits(when string) {
	p.t.Helper()
	if over := value[int](p, "document.documentElement.scrollWidth - window.innerWidth"); over > 0 {
		widest := value[string](p, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1).map((e) => e.tagName + "." + e.className + "#" + e.id).slice(-4).join(", ")`)
		p.t.Errorf("%s the page is %d pixels wider than its window: %s", when, over, widest)
	}
}

// key presses keys.
func (p *page) key(keys string, options ...chromedp.KeyOption) {
	p.t.Helper()
	p.run(fmt.Sprintf("press %q", keys), chromedp.KeyEvent(keys, options...))
}

// tabTo presses Tab until an element has the focus, and holds that the focus can be seen.
func (p *page) tabTo(selector string) {
	p.t.Helper()
	for range 80 {
		p.key("\t")
		if value[bool](p, fmt.Sprintf("document.activeElement?.matches(%q) ?? false", selector)) {
			return
		}
	}
	p.t.Fatalf("Tab never reaches %s", selector)
}

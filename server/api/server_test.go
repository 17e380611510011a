package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"likeness/models/pipeline"
)

// Every route is in the document and the other way round.
func TestDocumentHasEveryRoute(t *testing.T) {
	w := newWorld(t)
	var routes, documented []string
	for _, r := range w.echo.Routes() {
		path := regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}")
		routes = append(routes, r.Method+" "+path)
	}
	doc := readDocument(t)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(documented)
	if !slices.Equal(routes, documented) {
		t.Errorf("routes   %v\ndocument %v", routes, documented)
	}
	served, err := openapi3.NewLoader().LoadFromData(w.want(w.get("/openapi.json"), 200).body)
	if err != nil || served.Info.Title != doc.Info.Title {
		t.Error(served, err)
	}
}

func TestModelsAndHealth(t *testing.T) {
	failing := errors.New("secret")
	w := newWorld(t, func(c *Config) { c.Ready = func(context.Context) error { return failing } })
	w.want(w.get("/v1/models"), 200, `"demo"`, `"128x128"`, "euler")
	w.want(w.get("/healthz"), 200)
	if a := w.want(w.get("/readyz"), 503, "model_unavailable"); strings.Contains(string(a.body), "secret") {
		t.Errorf("%s", a.body)
	}
	failing = nil
	w.want(w.get("/readyz"), 200, "ready")
}

func TestUnknownRoutes(t *testing.T) {
	w := newWorld(t)
	w.want(w.get("/v2/none"), 404, `"error"`, "not_found")
	w.want(w.json("PUT", "/v1/concepts", ""), 405, `"error"`, "method_not_allowed")
	if a := w.json("HEAD", "/v1/none", ""); a.status != 404 || len(a.body) != 0 {
		t.Error(a)
	}
}

// Pages of other sites may not act in a visitor's name; programs, which send no Origin, may.
func TestOtherSites(t *testing.T) {
	w := newWorld(t)
	for site, want := range map[string]int{"cross-site": 403, "same-origin": 400} {
		r, _ := http.NewRequest("POST", w.url+"/v1/images/generations", strings.NewReader("{}"))
		r.Header.Set("Sec-Fetch-Site", site)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want || response.Header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(response.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %s %v", site, response.Status, response.Header)
		}
	}
}

// The log names routes and statuses, and never what people write or upload.
func TestLogKeepsSecrets(t *testing.T) {
	w := newWorld(t)
	c := read[conceptBody](w, w.upload(photo(red), part{"word", "canaryword"}, part{"name", "Canary Name"}))
	w.draw(`{"prompt":"a canaryprompt of <canaryword>"}`)
	w.want(w.json("POST", "/v1/images/generations", `{"prompt":"<canaryunknown>"}`), 422)
	w.get(c.URL + "?q=canaryquery")
	log := strings.ToLower(w.log.String())
	for _, needed := range []string{"route=/v1/concepts/:id", "status=201", "request=req_"} {
		if !strings.Contains(log, needed) {
			t.Errorf("the log lacks %q:\n%s", needed, log)
		}
	}
	if strings.Contains(log, "canary") {
		t.Errorf("the log tells too much:\n%s", log)
	}
}

// Serve opens the address, answers, lets a running request finish on the way down, and cancels one that takes too long, which is told why.
func TestServeAndShutdown(t *testing.T) {
	for name, test := range map[string]struct {
		patient    bool
		body, want string
	}{
		"finishes":            {true, `{"prompt":"x"}`, "200 "},
		"is cancelled":        {false, `{"prompt":"x"}`, "503 .*shutting down.*shutting_down"},
		"stream is cancelled": {false, `{"prompt":"x","stream":true}`, `(?s)200 .*event: error\n[^\n]*shutting_down.*\[DONE\]`},
	} {
		t.Run(name, func(t *testing.T) {
			patient := test.patient
			w := newWorld(t)
			started, goOn := make(chan bool), make(chan bool)
			w.before = func(ctx context.Context, r pipeline.Request) error {
				started <- true
				select {
				case <-goOn:
				case <-ctx.Done():
				}
				return ctx.Err()
			}
			ctx, stop := context.WithCancel(t.Context())
			addr, ended := make(chan string, 1), make(chan error, 1)
			grace := time.Minute
			if !patient {
				grace = 20 * time.Millisecond
			}
			go func() { ended <- w.Serve(ctx, "127.0.0.1:0", grace, func(a string) { addr <- a }) }()
			url := "http://" + <-addr
			answered := make(chan string, 1)
			go func() {
				response, err := http.Post(url+"/v1/images/generations", "application/json", strings.NewReader(test.body))
				if err != nil {
					answered <- err.Error()
					return
				}
				defer response.Body.Close()
				data, _ := io.ReadAll(response.Body)
				answered <- response.Status + string(data)
			}()
			<-started
			stop()
			if patient {
				close(goOn)
			}
			if got := <-answered; !regexp.MustCompile("^" + test.want).MatchString(got) {
				t.Errorf("answered %s, want %s", got, test.want)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = newWorld(t).Serve(t.Context(), taken.Addr().String(), time.Second, func(string) { t.Error("listening") })
	if err == nil || !strings.Contains(err.Error(), "--addr") || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Error(err)
	}
}

// The page gets everything outside the API.
func TestPage(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page "+r.URL.Path) })
	})
	for path, want := range map[string]string{"/": "page /", "/js/app.js": "page /js/app.js"} {
		if a := w.get(path); !bytes.Equal(a.body, []byte(want)) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	w.want(w.get("/v1/none"), 404, `"error"`)
}

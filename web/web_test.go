package web

import (
	"encoding/json"
	"image/png"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

// Everything a file loads is there, nothing comes from elsewhere, and scripts and styles are in files of their own, as the
// server's content policy wants them.
func TestFilesAreComplete(t *testing.T) {
	link := regexp.MustCompile(`(?:src|href|from)\s*=?\s*"([^"#]+)"`)
	err := fs.WalkDir(Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		ext := path.Ext(name)
		if err != nil || entry.IsDir() || ext == ".png" || ext == ".svg" {
			return err
		}
		data, err := fs.ReadFile(Files(), name)
		if err != nil {
			return err
		}
		text := string(data)
		if strings.Contains(text, "//cdn") || regexp.MustCompile(`https?://`).MatchString(text) {
			t.Errorf("%s loads something from elsewhere", name)
		}
		if regexp.MustCompile(`<style|<script>|\sstyle="|\son[a-z]+="`).MatchString(text) {
			t.Errorf("%s has script or style in the page itself", name)
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := path.Join(path.Dir(name), m[1])
			if target == "openapi.json" { // the server's
				continue
			}
			if _, err := fs.Stat(Files(), target); err != nil {
				t.Errorf("%s loads %s, which is not there", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSamples(t *testing.T) {
	data, err := fs.ReadFile(Files(), "samples/index.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ File, Name string }
	if err := json.Unmarshal(data, &list); err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	for _, sample := range list {
		file, err := Files().Open("samples/" + sample.File)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := png.Decode(file); err != nil || sample.Name == "" {
			t.Errorf("%+v: %v", sample, err)
		}
		file.Close()
	}
}

func TestHandler(t *testing.T) {
	for name, kind := range map[string]string{"/": "text/html", "/js/app.js": "text/javascript", "/css/base.css": "text/css", "/icon.svg": "image/svg+xml"} {
		w := httptest.NewRecorder()
		Handler().ServeHTTP(w, httptest.NewRequest("GET", name, nil))
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest("GET", "/../server/main.go", nil))
	if w.Code == http.StatusOK {
		t.Error("a file outside is served")
	}
}

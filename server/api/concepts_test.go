package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/server/store"
	"likeness/server/store/bolt"
)

func TestConceptLife(t *testing.T) {
	w := newWorld(t)
	a := w.want(w.upload(photo(red), photo(blue), part{"word", "me"}, part{"name", "Zoë <b>"}), http.StatusCreated)
	made := read[conceptBody](w, a)
	if made.Word != "me" || made.Class != "face" || made.Name != "Zoë <b>" || made.Photos != 2 || !made.Usable || made.Bytes < 100 {
		t.Errorf("made %+v", made)
	}
	for _, part := range []string{"photos", "encode", "store", "total"} {
		if _, ok := made.Timings[part]; !ok {
			t.Errorf("no time of %s: %v", part, made.Timings)
		}
	}
	if a.header.Get("Location") != made.URL || a.header.Get("X-Request-Id") == "" {
		t.Errorf("headers %v", a.header)
	}
	if got := read[conceptBody](w, w.want(w.get(made.URL), 200)); got.ID != made.ID || got.Timings != nil {
		t.Errorf("read back %+v", got)
	}
	file := w.want(w.get(made.FileURL), 200)
	c, err := concept.Unmarshal(file.body)
	if err != nil || c.ID != made.ID || len(file.body) != made.Bytes || !strings.Contains(file.header.Get("Content-Disposition"), "me.safetensors") {
		t.Errorf("file: %v, %v", err, file.header)
	}
	picture := w.want(w.get(made.ImageURL), 200)
	if _, format, err := image.Decode(bytes.NewReader(picture.body)); err != nil || format != "jpeg" || picture.header.Get("Content-Type") != "image/jpeg" {
		t.Errorf("picture: %s, %v", format, err)
	}
	changed := read[conceptBody](w, w.want(w.json("PATCH", made.URL, `{"name":" Ann ","word":"ann"}`), 200))
	if changed.Name != "Ann" || changed.Word != "ann" || changed.ID != made.ID {
		t.Errorf("changed %+v", changed)
	}
	w.want(w.json("DELETE", made.URL, ""), 200, made.ID)
	for _, path := range []string{made.URL, made.FileURL, made.ImageURL} {
		w.want(w.get(path), http.StatusNotFound, made.ID, "not_found")
	}
	w.want(w.json("DELETE", made.URL, ""), http.StatusNotFound)
	w.want(w.json("PATCH", made.URL, `{"name":"x"}`), http.StatusNotFound)
}

// The same photos, in any order, under the same word and class need no second run.
func TestSamePhotosAgain(t *testing.T) {
	w := newWorld(t)
	first := read[conceptBody](w, w.want(w.upload(photo(red), photo(blue), part{"word", "me"}), http.StatusCreated))
	again := w.want(w.upload(part{"word", "me"}, photo(blue), photo(red)), http.StatusOK)
	if got := read[conceptBody](w, again); got.ID != first.ID || w.encoded != 1 {
		t.Errorf("got %s, want %s; %d runs", got.ID, first.ID, w.encoded)
	}
	w.want(w.upload(photo(red), photo(blue), part{"word", "you"}), http.StatusCreated)
	w.want(w.upload(photo(red), photo(blue), part{"word", "me"}, part{"class", "man"}), http.StatusCreated)
	w.want(w.upload(photo(red), part{"word", "me"}), http.StatusCreated)
	// Once it has another word, the old word is free for the photos again.
	w.want(w.json("PATCH", first.URL, `{"word":"old"}`), 200)
	if got := read[conceptBody](w, w.want(w.upload(photo(red), photo(blue), part{"word", "me"}), http.StatusCreated)); got.ID == first.ID {
		t.Error("the renamed concept came back")
	}
	w.Server.Model.Encoder = "newer"
	w.want(w.upload(photo(red), photo(blue), part{"word", "me"}), http.StatusCreated)
}

func TestSameUploadAtOnce(t *testing.T) {
	w := newWorld(t)
	started, goOn := make(chan struct{}, 9), make(chan struct{})
	w.onEncode = func(context.Context) error { started <- struct{}{}; <-goOn; return nil }
	statuses := make([]int, 4)
	ids := make([]string, 4)
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() {
			a := w.upload(photo(red), part{"word", "me"})
			statuses[i], ids[i] = a.status, read[conceptBody](w, a).ID
		})
	}
	<-started
	close(goOn)
	wg.Wait()
	created := 0
	for i, status := range statuses {
		if status == http.StatusCreated {
			created++
		} else if status != http.StatusOK || ids[i] != ids[0] {
			t.Errorf("answers %v %v", statuses, ids)
		}
	}
	if created != 1 || w.encoded != 1 {
		t.Errorf("created %d, runs %d", created, w.encoded)
	}
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	type list struct {
		Data    []conceptBody
		Damaged []struct{ ID string }
		HasMore bool `json:"has_more"`
		Next    string
	}
	if empty := w.want(w.get("/v1/concepts"), 200); !strings.Contains(string(empty.body), `"data":[]`) {
		t.Errorf("empty: %s", empty.body)
	}
	for _, word := range []string{"a", "b", "c"} {
		w.concept(word, red)
	}
	var words []string
	path := "/v1/concepts?limit=2"
	for range 2 {
		page := read[list](w, w.want(w.get(path), 200))
		for _, c := range page.Data {
			words = append(words, c.Word)
		}
		path = "/v1/concepts?limit=2&after=" + page.Next
		if page.HasMore != (len(page.Data) == 2) {
			t.Errorf("page %+v", page)
		}
	}
	if got := strings.Join(words, ""); got != "cba" {
		t.Errorf("order %q", got)
	}
	for _, limit := range []string{"0", "101", "-1", "x", "1e9"} {
		w.want(w.get("/v1/concepts?limit="+limit), http.StatusBadRequest, "limit")
	}
}

// header is a PNG of a header alone.
func header(width, height uint32) string {
	chunk := binary.BigEndian.AppendUint32([]byte("IHDR"), width)
	chunk = append(binary.BigEndian.AppendUint32(chunk, height), 8, 6, 0, 0, 0)
	png := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\r"), chunk...)
	return string(binary.BigEndian.AppendUint32(png, crc32.ChecksumIEEE(chunk)))
}

// Bad uploads say what is wrong, store nothing, and leave the next good one as it was.
func TestBadUploads(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxUpload = 1 << 20 })
	good, word := photo(red), part{"word", "me"}
	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, image.NewRGBA(image.Rect(0, 0, 90, 90)), nil); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		parts  []part
		status int
		says   string
	}{
		"no photo":        {[]part{word}, 400, "image is missing"},
		"no word":         {[]part{good}, 400, "word"},
		"bad word":        {[]part{good, {"word", "My Face"}}, 400, "My Face"},
		"word like an id": {[]part{good, {"word", store.NewID(testTime)}}, 400, "looks like the id"},
		"five photos":     {[]part{good, good, good, good, good, word}, 422, "at most 4"},
		"empty":           {[]part{{"image", ""}, word}, 422, "image"},
		"text":            {[]part{{"image", "hello, I am not an image"}, word}, 415, "image"},
		"truncated png":   {[]part{{"image", good.value[:len(good.value)/2]}, word}, 422, "image"},
		"truncated jpeg":  {[]part{{"image", jpg.String()[:400]}, word}, 422, "image"},
		"second is bad":   {[]part{good, {"image", "junk"}, word}, 415, "photo 2"},
		"huge header":     {[]part{{"image", header(30000, 30000)}, word}, 422, "30000"},
		"zero header":     {[]part{{"image", header(0, 10)}, word}, 422, "image"},
		"gif":             {[]part{{"image", "GIF89a\x01\x00\x01\x00\x00\x00\x00;"}, word}, 415, "image"},
		"too large":       {[]part{{"image", strings.Repeat("x", 2<<20)}, word}, 413, "larger than"},
		"unknown field":   {[]part{good, word, {"wrod", "x"}}, 400, "wrod"},
		"long field":      {[]part{good, {"word", strings.Repeat("x", 2000)}}, 400, "word"},
		"two-line name":   {[]part{good, word, {"name", "a\nb"}}, 400, "name"},
		"long class":      {[]part{good, word, {"class", strings.Repeat("y", 65)}}, 400, "class"},
	} {
		a := w.upload(c.parts...)
		if a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: %d %s, want %d with %q", name, a.status, a.body, c.status, c.says)
		}
	}
	contentType, body := form(good, word)
	w.want(w.do("POST", "/v1/concepts", contentType, body[:len(body)-40]), http.StatusBadRequest, "cut short")
	w.want(w.do("POST", "/v1/concepts", "application/json", []byte(`{}`)), http.StatusUnsupportedMediaType, "multipart")
	w.want(w.do("POST", "/v1/concepts", "multipart/form-data", body), http.StatusUnsupportedMediaType)
	if list := w.get("/v1/concepts"); !strings.Contains(string(list.body), `"data":[]`) {
		t.Errorf("something was stored: %s", list.body)
	}
	w.want(w.upload(good, word), http.StatusCreated)
}

var testTime time.Time

func TestBadChanges(t *testing.T) {
	w := newWorld(t)
	c := w.concept("me", red)
	for body, says := range map[string]string{
		`{`: "JSON", ``: "JSON", `[]`: "object", `{"word":"X"}`: "word", `{"word":1}`: "word", `{"size":1}`: `size`, `{}`: "nothing to change",
		`{"name":"a\nb"}`: "name", `{"name":"x"} {}`: "goes on",
	} {
		w.want(w.json("PATCH", c.URL, body), http.StatusBadRequest, says)
	}
	w.want(w.json("PATCH", c.URL, `{"name":"`+strings.Repeat("x", 70<<10)+`"}`), http.StatusRequestEntityTooLarge)
	if got := read[conceptBody](w, w.get(c.URL)); got.Word != "me" || got.Name != "" {
		t.Errorf("changed to %+v", got)
	}
}

// A store that fails, and one with a damaged value, are told apart from the caller's own mistakes.
func TestStoreTrouble(t *testing.T) {
	w := newWorld(t)
	good := w.concept("ann", blue)
	w.Server.Store = damagedStore{w.Server.Store, good.ID}
	for _, a := range []answer{w.get(good.URL), w.json("POST", "/v1/images/generations", `{"prompt":"<ann>"}`)} {
		w.want(a, http.StatusInternalServerError, good.ID, "concept_damaged")
	}
	list := w.want(w.get("/v1/concepts"), 200, good.ID)
	if !strings.Contains(string(list.body), `"data":[]`) {
		t.Errorf("list: %s", list.body)
	}
	w.want(w.json("DELETE", good.URL, ""), 200)

	w.Server.Store.(damagedStore).Store.(*bolt.Store).Close()
	for path := range map[string]bool{"/v1/concepts": true, "/readyz": true} {
		a := w.want(w.get(path), http.StatusServiceUnavailable, "store_unavailable")
		if a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "database") {
			t.Errorf("%s: %v %s", path, a.header, a.body)
		}
	}
	w.want(w.get("/healthz"), 200)
}

// damagedStore is a store whose value of one id was damaged.
type damagedStore struct {
	store.Store
	id string
}

func (s damagedStore) damage() *store.DamagedError {
	return &store.DamagedError{ID: s.id, Err: fmt.Errorf("checksum does not match")}
}

func (s damagedStore) Get(context.Context, string) (*concept.Concept, error) { return nil, s.damage() }

func (s damagedStore) List(ctx context.Context, limit int, after string) (store.Page, error) {
	if _, err := s.Store.List(ctx, limit, after); err != nil {
		return store.Page{}, err
	}
	return store.Page{Damaged: []*store.DamagedError{s.damage()}}, nil
}

func (s damagedStore) Find(context.Context, store.Key, string) (store.Page, error) {
	return store.Page{Damaged: []*store.DamagedError{s.damage()}}, nil
}

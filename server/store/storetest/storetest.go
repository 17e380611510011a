// Package storetest is the suite that every store.Store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"likeness/encoder/concept"
	"likeness/server/store"
)

// Subject is an implementation under test, over one empty place to store things in.
type Subject struct {
	// Open opens the store; a second Open, after Close, finds what the first one stored.
	Open func() (store.Store, error)
	// Damage overwrites the stored bytes of a concept behind the back of an open store.
	Damage func(s store.Store, id string, value []byte) error
}

// Run runs the suite; fresh makes an empty subject.
func Run(t *testing.T, fresh func(t *testing.T) Subject) {
	for _, part := range []struct {
		name string
		test func(t *testing.T, s store.Store, subject Subject)
	}{
		{"read back", readBack}, {"absent", absent}, {"pages", pages}, {"find", find}, {"update", update},
		{"versions", versions},
		{"delete", remove}, {"damaged", damaged}, {"concurrent", concurrent}, {"reopen", reopen}, {"cancelled", cancelled},
	} {
		t.Run(part.name, func(t *testing.T) {
			subject := fresh(t)
			part.test(t, open(t, subject), subject)
		})
	}
}

// Concept makes a valid concept with a new id.
func Concept(word string, photos string) *concept.Concept {
	now := time.Now().UTC()
	c := &concept.Concept{
		ID: store.NewID(now), Name: "Zoë’s <b>", Word: word, Class: "face", Method: "encoder", BaseModel: "base", Layout: "layout",
		Encoder: "encoder", Created: now, Photos: 1, PhotoHash: photos, Notes: []string{"a note"},
		WordEmbeddings: concept.Embeddings{Layers: 1, Vectors: 2, Width: 64, Data: make([]float32, 128)},
		Coefficients:   make([]float32, 1000), Preview: []byte("\x89PNG\r\n\x1a\nrest"),
	}
	for i := range c.Coefficients {
		c.Coefficients[i] = float32(i) / 7
	}
	return c
}

func open(t *testing.T, subject Subject) store.Store {
	t.Helper()
	s, err := subject.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s store.Store, c *concept.Concept) *concept.Concept {
	t.Helper()
	if err := s.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func words(page store.Page) string {
	var list []string
	for _, c := range page.Concepts {
		list = append(list, c.Word)
	}
	return strings.Join(list, " ")
}

func readBack(t *testing.T, s store.Store, _ Subject) {
	c := put(t, s, Concept("me", "p"))
	got, err := s.Get(t.Context(), c.ID)
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Fatalf("got %+v, %v, want %+v", got, err, c)
	}
	c.Word, c.PhotoHash = "you", "q"
	put(t, s, c)
	for value, want := range map[string]string{"p": "", "q": "you"} {
		if page, err := s.Find(t.Context(), store.ByPhotos, value); err != nil || words(page) != want {
			t.Errorf("after replacing: photos %s give %q, %v, want %q", value, words(page), err, want)
		}
	}
	c.Word = "Not a word"
	if err := s.Put(t.Context(), c); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("an invalid concept: %v", err)
	}
	if got, err := s.Get(t.Context(), c.ID); err != nil || got.Word != "you" {
		t.Errorf("after a refused Put: %v, %v", got, err)
	}
}

func absent(t *testing.T, s store.Store, _ Subject) {
	put(t, s, Concept("me", "p"))
	ctx, none := t.Context(), "c_none"
	_, getErr := s.Get(ctx, none)
	_, updateErr := s.Update(ctx, none, func(*concept.Concept) error { t.Error("changed"); return nil })
	_, reviseErr := s.Revise(ctx, none, func(*concept.Concept) error { t.Error("revised"); return nil })
	_, restoreErr := s.Restore(ctx, none, 0)
	_, earlierErr := s.Earlier(ctx, none)
	for name, err := range map[string]error{"Get": getErr, "Update": updateErr, "Revise": reviseErr, "Restore": restoreErr, "Earlier": earlierErr,
		"Delete": s.Delete(ctx, none)} {
		if !errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), none) {
			t.Errorf("%s: %v, want ErrNotFound with the id", name, err)
		}
	}
	if page, err := s.Find(ctx, store.ByWord, "m"); err != nil || len(page.Concepts) != 0 {
		t.Errorf("Find of a beginning: %v, %v", page, err)
	}
}

func pages(t *testing.T, s store.Store, _ Subject) {
	if page, err := s.List(t.Context(), 3, ""); err != nil || !reflect.DeepEqual(page, store.Page{}) {
		t.Fatalf("empty store: %+v, %v", page, err)
	}
	start := time.Now()
	for i := range 7 {
		c := Concept(fmt.Sprint("w", i), "p")
		c.ID = store.NewID(start.Add(time.Duration(i) * time.Second))
		put(t, s, c)
	}
	var got []string
	after := ""
	for range 3 {
		page, err := s.List(t.Context(), 3, after)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, words(page))
		after = page.Next
		if after == "" {
			break
		}
	}
	if want := "w6 w5 w4|w3 w2 w1|w0"; strings.Join(got, "|") != want {
		t.Errorf("pages %q, want %q", got, want)
	}
	page, err := s.List(t.Context(), 7, "")
	if err != nil || len(page.Concepts) != 7 || page.Next != "" {
		t.Errorf("a page of exactly all: %d, next %q, %v", len(page.Concepts), page.Next, err)
	}
	// A page may start where a concept has been deleted meanwhile.
	gone := page.Concepts[2]
	if err := s.Delete(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	if page, err := s.List(t.Context(), 2, gone.ID); err != nil || words(page) != "w3 w2" {
		t.Errorf("after a deleted one: %q, %v", words(page), err)
	}
}

func find(t *testing.T, s store.Store, _ Subject) {
	start := time.Now()
	for i, word := range []string{"me", "me2", "ann", "me"} {
		c := Concept(word, fmt.Sprint("hash", i))
		c.Name = fmt.Sprint(i)
		c.ID = store.NewID(start.Add(time.Duration(i) * time.Second))
		put(t, s, c)
	}
	page, err := s.Find(t.Context(), store.ByWord, "me")
	if err != nil || len(page.Concepts) != 2 || page.Concepts[0].Name != "3" || page.Concepts[1].Name != "0" {
		t.Errorf("by word, newest first: %+v, %v", page, err)
	}
	if page, err := s.Find(t.Context(), store.ByPhotos, "hash2"); err != nil || words(page) != "ann" {
		t.Errorf("by photos: %q, %v", words(page), err)
	}
}

func update(t *testing.T, s store.Store, _ Subject) {
	c := put(t, s, Concept("me", "p"))
	got, err := s.Update(t.Context(), c.ID, func(c *concept.Concept) error { c.Word, c.Name = "ann", "Ann"; return nil })
	if err != nil || got.Word != "ann" {
		t.Fatal(got, err)
	}
	stored, err := s.Get(t.Context(), c.ID)
	if err != nil || !reflect.DeepEqual(stored, got) {
		t.Errorf("stored %+v, %v, answered %+v", stored, err, got)
	}
	for word, want := range map[string]string{"me": "", "ann": "ann"} {
		if page, err := s.Find(t.Context(), store.ByWord, word); err != nil || words(page) != want {
			t.Errorf("word %s finds %q, %v", word, words(page), err)
		}
	}
	refuse := errors.New("no")
	for name, change := range map[string]func(*concept.Concept) error{
		"refused":     func(c *concept.Concept) error { c.Name = "x"; return refuse },
		"invalid":     func(c *concept.Concept) error { c.Word = "X Y"; return nil },
		"another id":  func(c *concept.Concept) error { c.ID = "c_other"; return nil },
		"not a label": func(c *concept.Concept) error { c.Name = "a\nb"; return nil },
	} {
		_, err := s.Update(t.Context(), c.ID, change)
		if err == nil || errors.Is(err, store.ErrUnavailable) || (name == "refused") != errors.Is(err, refuse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if again, err := s.Get(t.Context(), c.ID); err != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("a failed change was stored: %+v, %v", again, err)
	}
}

func remove(t *testing.T, s store.Store, _ Subject) {
	keep, gone := put(t, s, Concept("me", "p")), put(t, s, Concept("me", "p"))
	if err := s.Delete(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), gone.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("still there: %v", err)
	}
	list, listErr := s.List(t.Context(), 9, "")
	byWord, wordErr := s.Find(t.Context(), store.ByWord, "me")
	byPhotos, photosErr := s.Find(t.Context(), store.ByPhotos, "p")
	for _, page := range []store.Page{list, byWord, byPhotos} {
		if len(page.Concepts) != 1 || page.Concepts[0].ID != keep.ID || len(page.Damaged) != 0 {
			t.Errorf("left: %+v", page)
		}
	}
	if err := errors.Join(listErr, wordErr, photosErr); err != nil {
		t.Error(err)
	}
}

func damaged(t *testing.T, s store.Store, subject Subject) {
	c := put(t, s, Concept("me", "p"))
	good := put(t, s, Concept("ann", "q"))
	value, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte(nil), value...)
	flipped[len(flipped)-1] ^= 1
	another, err := good.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"cut": value[:len(value)/2], "flipped bit": flipped, "empty": {}, "another's": another} {
		if err := subject.Damage(s, c.ID, bad); err != nil {
			t.Fatal(err)
		}
		var d *store.DamagedError
		if _, err := s.Get(t.Context(), c.ID); !errors.As(err, &d) || d.ID != c.ID || !strings.Contains(err.Error(), c.ID) {
			t.Errorf("%s: Get: %v, want a DamagedError with the id", name, err)
		}
		if _, err := s.Update(t.Context(), c.ID, func(*concept.Concept) error { return nil }); !errors.As(err, &d) {
			t.Errorf("%s: Update: %v", name, err)
		}
		page, err := s.List(t.Context(), 9, "")
		if err != nil || words(page) != "ann" || len(page.Damaged) != 1 || page.Damaged[0].ID != c.ID {
			t.Errorf("%s: List: %+v, %v", name, page, err)
		}
		page, err = s.Find(t.Context(), store.ByWord, "me")
		if err != nil || len(page.Concepts) != 0 || len(page.Damaged) != 1 {
			t.Errorf("%s: Find: %+v, %v", name, page, err)
		}
	}
	if err := s.Delete(t.Context(), c.ID); err != nil {
		t.Errorf("a damaged concept cannot be deleted: %v", err)
	}
	if page, err := s.Find(t.Context(), store.ByWord, "me"); err != nil || len(page.Damaged) != 0 {
		t.Errorf("a trace is left: %+v, %v", page, err)
	}
}

func concurrent(t *testing.T, s store.Store, _ Subject) {
	c := put(t, s, Concept("me", "p"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				_, err := s.Update(t.Context(), c.ID, func(c *concept.Concept) error { c.Photos++; return nil })
				if err != nil {
					t.Error(err)
				}
			}
			if err := s.Put(t.Context(), Concept("other", "p")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := s.Get(t.Context(), c.ID); err != nil || got.Photos != 41 {
		t.Errorf("40 updates at once gave %d, %v", got.Photos-1, err)
	}
	if page, err := s.List(t.Context(), 99, ""); err != nil || len(page.Concepts) != 9 {
		t.Errorf("%d concepts, %v", len(page.Concepts), err)
	}
}

func reopen(t *testing.T, s store.Store, subject Subject) {
	c := put(t, s, Concept("me", "p"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), c.ID); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a closed store: %v, want ErrUnavailable", err)
	}
	again := open(t, subject)
	if got, err := again.Get(t.Context(), c.ID); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("after reopening: %+v, %v", got, err)
	}
}

func cancelled(t *testing.T, s store.Store, _ Subject) {
	c := Concept("me", "p")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, c); err == nil || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put: %v", err)
	}
	if _, err := s.Get(t.Context(), c.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a cancelled Put stored: %v", err)
	}
}

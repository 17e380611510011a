package bolt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"likeness/server/store"
	"likeness/server/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		path := filepath.Join(t.TempDir(), "new", "folder", "concepts.db")
		return storetest.Subject{
			Open: func() (store.Store, error) { return Open(path) },
			Damage: func(s store.Store, id string, value []byte) error {
				return s.(*Store).db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(valuesBucket).Put([]byte(id), value) })
			},
		}
	})
}

// A copy of the file taken while it is open, as a killed process leaves it, has everything acknowledged.
func TestFileIsCompleteAfterEveryPut(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n := 1; n <= 5; n++ {
		if err := s.Put(t.Context(), storetest.Concept("me", "p")); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied, data, 0o600); err != nil {
			t.Fatal(err)
		}
		left, err := Open(copied)
		if err != nil {
			t.Fatal(err)
		}
		page, err := left.List(t.Context(), 9, "")
		if err != nil || len(page.Concepts) != n || len(page.Damaged) != 0 {
			t.Errorf("%d of %d: %v", len(page.Concepts), n, err)
		}
		left.Close()
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("others may read the file: %v, %v", stat.Mode(), err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a store\n", 4000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for bad, says := range map[string]string{path: "another process", text: text, dir: dir, filepath.Join(text, "x.db"): "text"} {
		if s, err := Open(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want an error with %q", bad, err, says)
			if err == nil {
				s.Close()
			}
		}
	}
}

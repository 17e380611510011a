package bolt

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
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

// limited is set, to bytes, in a process of this test that can write no larger files; its last argument is the path.
const limited = "BOLT_TEST_LIMIT"

// A file that cannot be written as a whole is not there afterwards, so that the next start, with room, makes it.
func TestNoHalfOfAFile(t *testing.T) {
	if size, err := strconv.ParseUint(os.Getenv(limited), 10, 64); err == nil {
		signal.Ignore(syscall.SIGXFSZ) // writes beyond the limit fail, then
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(os.Args[len(os.Args)-1]); err == nil {
			t.Fatal("opened")
		}
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	for _, size := range []int{100, 4096, 8192, 12288, 20000} {
		command := exec.Command(os.Args[0], "-test.run=^TestNoHalfOfAFile$", path)
		command.Env = append(os.Environ(), fmt.Sprintf("%s=%d", limited, size))
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("with room for %d bytes: %v: %s", size, err, out)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("with room for %d bytes there is %v afterwards", size, left)
		}
		s, err := Open(path)
		if err != nil {
			t.Fatalf("after %d bytes: %v", size, err)
		}
		s.Close()
		os.Remove(path)
	}
}

// Several processes that make the same file agree on one.
func TestCreateTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := create(path); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if s, err := Open(path); err != nil {
		t.Error(err)
	} else {
		s.Close()
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// A file cut off anywhere, or overwritten in part, gives errors, never the end of the process.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var id string
	for range 25 {
		c := storetest.Concept("me", "p")
		if err := s.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		id = c.ID
	}
	s.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	try := func(name string, data []byte) {
		cut := filepath.Join(dir, name) // one each, since bbolt keeps the lock on a file that it panicked over
		if err := os.WriteFile(cut, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(cut)
		if err != nil {
			failed++
			if !strings.Contains(err.Error(), cut) {
				t.Errorf("%s: %v", name, err)
			}
			return
		}
		for _, use := range []func() error{
			func() error { _, err := s.List(t.Context(), 100, ""); return err },
			func() error { _, err := s.Find(t.Context(), store.ByWord, "me"); return err },
			func() error { _, err := s.Get(t.Context(), id); return err },
			func() error { return s.Put(t.Context(), storetest.Concept("you", "p")) },
			func() error { return s.Delete(t.Context(), id) },
		} {
			if err := use(); err != nil {
				failed++
			}
		}
		s.Close()
	}
	page := os.Getpagesize()
	for n := 1; n*page < len(data); n++ {
		try(fmt.Sprintf("%d pages", n), data[:n*page])
		broken := bytes.Clone(data)
		copy(broken[n*page:], bytes.Repeat([]byte{0xa5}, page))
		try(fmt.Sprintf("page %d", n), broken)
	}
	if failed == 0 {
		t.Error("nothing failed")
	}
}

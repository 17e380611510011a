// Package bolt keeps concepts in one file of this machine (bbolt).
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"

	"likeness/encoder/concept"
	"likeness/server/store"
)

// Buckets: values has id → safetensors; keys has id → its index entries, separated by '\n'; index has
// "key\x00value\x00id" → nothing; earlier has "id\x00version" → safetensors, the version as eight bytes in big-endian order.
var (
	valuesBucket  = []byte("values")
	keysBucket    = []byte("keys")
	indexBucket   = []byte("index")
	earlierBucket = []byte("earlier")
)

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = 2 * time.Second

// Store is a store.Store in one file. Every commit is synced to disk.
type Store struct{ db *bbolt.DB }

var _ store.Store = (*Store)(nil)

// Open opens or creates the file at path, and its folder. One process at a time may hold it.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("concept store: %w", err)
	}
	err := create(path)
	var s *Store
	if err == nil {
		s, err = open(path)
	}
	switch {
	case errors.Is(err, bbolt.ErrTimeout):
		return nil, fmt.Errorf("concept store %s is in use by another process: stop it, or name another file with --store", path)
	case errors.Is(err, errDamaged):
		return nil, fmt.Errorf("concept store %s: %w: put a copy in its place, or name another file with --store", path, err)
	case err != nil:
		return nil, fmt.Errorf("concept store %s: %w", path, err)
	}
	return s, nil
}

// create makes a new file whole or not at all, so that a full disk or a crash leaves no half of one. Where there is a file, it does nothing.
func create(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	whole := filepath.Join(dir, filepath.Base(path))
	s, err := open(whole)
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	_ = os.Link(whole, path) // another process was faster, or the file system has no links: then bbolt makes the file
	return nil
}

func open(path string) (*Store, error) {
	s := &Store{}
	err := guarded(func() (err error) {
		s.db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
		return err
	})
	if err != nil {
		return nil, err
	}
	err = s.update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{valuesBucket, keysBucket, indexBucket, earlierBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.db.Close()
		return nil, err
	}
	return s, nil
}

// errDamaged says that the file is not as bbolt wrote it.
var errDamaged = errors.New("the file is damaged or cut off")

// guarded runs f, and gives its panic as errDamaged: bbolt panics over pages that make no sense, and reading beyond the end of a mapped file
// that was cut off would end the process.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w (%v)", errDamaged, p)
		}
	}()
	return f()
}

func (s *Store) view(f func(*bbolt.Tx) error) error {
	return guarded(func() error { return s.db.View(f) })
}

func (s *Store) update(f func(*bbolt.Tx) error) error {
	return guarded(func() error { return s.db.Update(f) })
}

// Close releases the file.
func (s *Store) Close() error { return s.db.Close() }

// Put implements store.Store.
func (s *Store) Put(ctx context.Context, c *concept.Concept) error {
	value, err := c.Marshal()
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.Unavailable(s.update(func(tx *bbolt.Tx) error { return put(tx, c, value) }))
}

func put(tx *bbolt.Tx, c *concept.Concept, value []byte) error {
	if err := remove(tx, c.ID); err != nil {
		return err
	}
	var entries [][]byte
	for key, v := range store.Keys(c) {
		entry := append(prefix(key, v), c.ID...)
		if err := tx.Bucket(indexBucket).Put(entry, nil); err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	if err := tx.Bucket(keysBucket).Put([]byte(c.ID), bytes.Join(entries, []byte("\n"))); err != nil {
		return err
	}
	return tx.Bucket(valuesBucket).Put([]byte(c.ID), value)
}

// remove deletes the concept of id, if there is one.
func remove(tx *bbolt.Tx, id string) error {
	keys := tx.Bucket(keysBucket)
	if list := keys.Get([]byte(id)); list != nil {
		for _, entry := range bytes.Split(bytes.Clone(list), []byte("\n")) {
			if err := tx.Bucket(indexBucket).Delete(entry); err != nil {
				return err
			}
		}
	}
	if err := keys.Delete([]byte(id)); err != nil {
		return err
	}
	return tx.Bucket(valuesBucket).Delete([]byte(id))
}

func prefix(key store.Key, value string) []byte { return []byte(string(key) + "\x00" + value + "\x00") }

// Get implements store.Store.
func (s *Store) Get(ctx context.Context, id string) (*concept.Concept, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var value []byte
	err := s.view(func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(valuesBucket).Get([]byte(id)))
		return nil
	})
	if err != nil {
		return nil, store.Unavailable(err)
	}
	if value == nil {
		return nil, store.NotFound(id)
	}
	return store.Decode(id, value)
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, limit int, after string) (store.Page, error) {
	var page store.Page
	if err := ctx.Err(); err != nil {
		return page, err
	}
	err := s.view(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(valuesBucket).Cursor()
		id, value := cursor.Last()
		if after != "" {
			if id, _ = cursor.Seek([]byte(after)); id == nil {
				id, value = cursor.Last()
			} else {
				id, value = cursor.Prev()
			}
		}
		last := ""
		for n := 0; id != nil; id, value = cursor.Prev() {
			if n++; n > limit {
				page.Next = last
				break
			}
			last = string(id)
			page.Add(last, bytes.Clone(value))
		}
		return nil
	})
	return page, store.Unavailable(err)
}

// Find implements store.Store.
func (s *Store) Find(ctx context.Context, key store.Key, value string) (store.Page, error) {
	var page store.Page
	if err := ctx.Err(); err != nil {
		return page, err
	}
	err := s.view(func(tx *bbolt.Tx) error {
		var ids []string
		start := prefix(key, value)
		cursor := tx.Bucket(indexBucket).Cursor()
		for entry, _ := cursor.Seek(start); bytes.HasPrefix(entry, start); entry, _ = cursor.Next() {
			ids = append(ids, string(entry[len(start):]))
		}
		for i := len(ids) - 1; i >= 0; i-- {
			page.Add(ids[i], bytes.Clone(tx.Bucket(valuesBucket).Get([]byte(ids[i]))))
		}
		return nil
	})
	return page, store.Unavailable(err)
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error) {
	return s.alter(ctx, id, func(r *store.Record) (*concept.Concept, error) { return r.Update(change) })
}

// Revise implements store.Store.
func (s *Store) Revise(ctx context.Context, id string, change func(*concept.Concept) error) (*concept.Concept, error) {
	return s.alter(ctx, id, func(r *store.Record) (*concept.Concept, error) { return r.Revise(change) })
}

// Restore implements store.Store.
func (s *Store) Restore(ctx context.Context, id string, version int) (*concept.Concept, error) {
	return s.alter(ctx, id, func(r *store.Record) (*concept.Concept, error) { return r.Restore(version) })
}

// alter changes all that is stored of a concept, as one step.
func (s *Store) alter(ctx context.Context, id string, change func(*store.Record) (*concept.Concept, error)) (*concept.Concept, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var c *concept.Concept
	var wrong error // the answer, where the file is not to blame
	err := s.update(func(tx *bbolt.Tx) error {
		r := record(tx, id)
		before := r.Earlier
		if c, wrong = change(r); wrong != nil {
			return wrong
		}
		earlier := tx.Bucket(earlierBucket)
		for version := range before {
			if r.Earlier[version] == nil {
				if err := earlier.Delete(earlierKey(id, version)); err != nil {
					return err
				}
			}
		}
		for version, value := range r.Earlier {
			if before[version] == nil {
				if err := earlier.Put(earlierKey(id, version), value); err != nil {
					return err
				}
			}
		}
		return put(tx, c, r.Value)
	})
	if wrong != nil {
		return nil, wrong
	}
	if err != nil {
		return nil, store.Unavailable(err)
	}
	return c, nil
}

// record reads all that is stored of a concept.
func record(tx *bbolt.Tx, id string) *store.Record {
	r := &store.Record{ID: id, Value: bytes.Clone(tx.Bucket(valuesBucket).Get([]byte(id))), Earlier: map[int][]byte{}}
	start := []byte(id + "\x00")
	cursor := tx.Bucket(earlierBucket).Cursor()
	for key, value := cursor.Seek(start); bytes.HasPrefix(key, start); key, value = cursor.Next() {
		r.Earlier[int(binary.BigEndian.Uint64(key[len(start):]))] = bytes.Clone(value)
	}
	return r
}

func earlierKey(id string, version int) []byte {
	return binary.BigEndian.AppendUint64([]byte(id+"\x00"), uint64(version))
}

// Earlier implements store.Store.
func (s *Store) Earlier(ctx context.Context, id string) ([]*concept.Concept, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var r *store.Record
	if err := s.view(func(tx *bbolt.Tx) error { r = record(tx, id); return nil }); err != nil {
		return nil, store.Unavailable(err)
	}
	return r.Versions()
}

// Delete implements store.Store.
func (s *Store) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	found := false
	err := s.update(func(tx *bbolt.Tx) error {
		found = tx.Bucket(valuesBucket).Get([]byte(id)) != nil
		for version := range record(tx, id).Earlier {
			if err := tx.Bucket(earlierBucket).Delete(earlierKey(id, version)); err != nil {
				return err
			}
		}
		return remove(tx, id)
	})
	if err == nil && !found {
		return store.NotFound(id)
	}
	return store.Unavailable(err)
}

package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/go-json-experiment/json"
)

// Marshal encodes tensors and meta. Equal inputs give equal bytes.
func Marshal(tensors map[string]Tensor, meta map[string]string) ([]byte, error) {
	var b bytes.Buffer
	if err := encode("data", &b, tensors, meta); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Write makes or replaces the file at path atomically: a reader sees the old file or the whole new one. Every
// tensor starts at a multiple of its element size.
func Write(path string, tensors map[string]Tensor, meta map[string]string) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return &Error{Path: path, Reason: "cannot create", Err: unwrapPath(err)}
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
		}
	}()
	if err := encode(path, tmp, tensors, meta); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return tmp.Chmod(0o644) },
		tmp.Sync,
		tmp.Close,
		func() error { return os.Rename(tmp.Name(), path) },
		func() error { return syncDir(dir) },
	} {
		if err := step(); err != nil {
			return &Error{Path: path, Reason: "cannot write", Err: unwrapPath(err)}
		}
	}
	return nil
}

// Writable is the error that making a file at path would meet, as far as it is known before: what is asked before long work.
func Writable(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder: name a file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("%s cannot be made: %w", path, unwrapPath(err))
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// syncDir makes a rename inside dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// encode writes header and data to w; path is for error messages.
func encode(path string, w io.Writer, tensors map[string]Tensor, meta map[string]string) error {
	names, err := layout(path, tensors)
	if err != nil {
		return err
	}
	entries := make(map[string]any, len(names)+1)
	var offset int64
	for _, name := range names {
		t := tensors[name]
		end := offset + int64(len(t.Data))
		shape := t.Shape
		if shape == nil {
			shape = []int{}
		}
		entries[name] = struct {
			DType   DType    `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, shape, [2]int64{offset, end}}
		offset = end
	}
	if len(meta) > 0 {
		entries[metadataKey] = meta
	}
	text, err := json.Marshal(entries, json.Deterministic(true))
	if err != nil {
		return &Error{Path: path, Reason: "cannot encode the header", Err: err}
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	if len(text) > maxHeader {
		return &Error{Path: path, Reason: fmt.Sprintf("header of %d bytes is over the limit of %d", len(text), maxHeader)}
	}
	out := bufio.NewWriterSize(w, 1<<16)
	binary.Write(out, binary.LittleEndian, uint64(len(text)))
	out.Write(text)
	for _, name := range names {
		out.Write(tensors[name].Data)
	}
	if err := out.Flush(); err != nil {
		return &Error{Path: path, Reason: "cannot write", Err: unwrapPath(err)}
	}
	return nil
}

// layout checks the tensors and orders their names: widest elements first, so that each is aligned, then by name.
func layout(path string, tensors map[string]Tensor) ([]string, error) {
	names := make([]string, 0, len(tensors))
	for name, t := range tensors {
		want, problem := byteLength(t.DType, t.Shape)
		switch {
		case name == metadataKey:
			problem = "reserved name"
		case problem == "" && int64(len(t.Data)) != want:
			problem = fmt.Sprintf("%s%v needs %d bytes, has %d", t.DType, t.Shape, want, len(t.Data))
		}
		if problem != "" {
			return nil, &Error{Path: path, Tensor: name, Reason: problem}
		}
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := tensors[names[i]].DType.Size(), tensors[names[j]].DType.Size()
		if a != b {
			return a > b
		}
		return names[i] < names[j]
	})
	return names, nil
}

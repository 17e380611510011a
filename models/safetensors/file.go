package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"
)

// File is an open safetensors file; only its header is in memory. It is safe for concurrent use until Close.
type File struct {
	path   string
	data   io.ReaderAt
	memory []byte // the whole file, where it was parsed or mapped
	closer io.Closer
	header *header
}

// Open reads and checks the header of the file at path. The caller closes the File.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &Error{Path: path, Reason: "cannot open", Err: unwrapPath(err)}
	}
	stat, err := f.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, &Error{Path: path, Reason: "cannot open", Err: unwrapPath(err)}
	}
	file, err := read(path, f, stat.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	file.closer = f
	return file, nil
}

// Map is Open of a file that is read now: its bytes and tensors are the system's pages of it, until Close. The file must keep its size until then.
func Map(path string) (*File, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	file := f.closer.(*os.File)
	stat, err := file.Stat()
	if err == nil {
		f.memory, err = syscall.Mmap(int(file.Fd()), 0, int(stat.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(&Error{Path: path, Reason: "cannot map", Err: unwrapPath(err)}, f.Close())
	}
	f.data, f.closer = bytes.NewReader(f.memory), mapping{file, f.memory}
	return f, nil
}

// mapping closes a mapped file.
type mapping struct {
	*os.File
	memory []byte
}

func (m mapping) Close() error { return errors.Join(syscall.Munmap(m.memory), m.File.Close()) }

// Parse reads a whole file held in memory. The File refers to data, and so do the bytes and tensors that it gives; it needs no Close.
func Parse(data []byte) (*File, error) {
	f, err := read("data", bytes.NewReader(data), int64(len(data)))
	if err == nil {
		f.memory = data
	}
	return f, err
}

func read(path string, r io.ReaderAt, size int64) (*File, error) {
	if size < prefixBytes {
		return nil, &Error{Path: path, Reason: fmt.Sprintf("%d bytes are too few for a header: the file is truncated", size)}
	}
	var prefix [prefixBytes]byte
	if err := readAt(r, prefix[:], 0); err != nil {
		return nil, &Error{Path: path, Reason: "cannot read", Err: unwrapPath(err)}
	}
	n, err := headerLength(path, binary.LittleEndian.Uint64(prefix[:]), size)
	if err != nil {
		return nil, err
	}
	text := make([]byte, n)
	if err := readAt(r, text, prefixBytes); err != nil {
		return nil, &Error{Path: path, Reason: "cannot read", Err: unwrapPath(err)}
	}
	h, err := parseHeader(path, text, prefixBytes+n, size)
	if err != nil {
		return nil, err
	}
	return &File{path: path, data: r, header: h}, nil
}

// readAt fills p; io.EOF with a full p is success.
func readAt(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	return err
}

// unwrapPath drops the path that os errors repeat.
func unwrapPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Path is the path given to Open, or "data" after Parse.
func (f *File) Path() string { return f.path }

// Names lists the tensors, sorted.
func (f *File) Names() []string {
	return slices.Clone(f.header.names)
}

// Info describes the named tensor; ok is false if there is none.
func (f *File) Info(name string) (info Info, ok bool) {
	info, ok = f.header.infos[name]
	info.Shape = slices.Clone(info.Shape)
	return info, ok
}

// Metadata is a copy of the header's free text fields, never nil.
func (f *File) Metadata() map[string]string { return maps.Clone(f.header.metadata) }

// Bytes reads the named tensor's little-endian bytes; of a file in memory or mapped they are that memory.
func (f *File) Bytes(name string) ([]byte, error) {
	info, ok := f.header.infos[name]
	if !ok {
		return nil, &Error{Path: f.path, Tensor: name, Reason: "no such tensor"}
	}
	if f.memory != nil {
		return f.memory[info.Offset:][:info.Length], nil
	}
	p := make([]byte, info.Length)
	if err := readAt(f.data, p, info.Offset); err != nil {
		return nil, &Error{Path: f.path, Tensor: name, Reason: "cannot read", Err: unwrapPath(err)}
	}
	return p, nil
}

// Float32 reads the named F64, F32, F16 or BF16 tensor as float32, and its shape.
func (f *File) Float32(name string) ([]float32, []int, error) {
	info, ok := f.header.infos[name]
	if !ok || !info.DType.isFloat() {
		return nil, nil, f.ReadFloat32(name, nil)
	}
	v := make([]float32, info.Length/int64(info.DType.Size()))
	if err := f.ReadFloat32(name, v); err != nil {
		return nil, nil, err
	}
	return v, slices.Clone(info.Shape), nil
}

// ReadFloat32 is Float32 into v, which has as many numbers as the tensor.
func (f *File) ReadFloat32(name string, v []float32) error {
	if info, ok := f.header.infos[name]; ok && info.DType.isFloat() && int64(len(v)*info.DType.Size()) != info.Length {
		return &Error{Path: f.path, Tensor: name, Reason: fmt.Sprintf("%v does not hold %d numbers", info.Shape, len(v))}
	}
	return f.ReadFloat32From(name, 0, v)
}

// ReadFloat32From fills v with the named tensor's numbers from the first-th on, as Float32 reads them.
func (f *File) ReadFloat32From(name string, first int, v []float32) error {
	info, ok := f.header.infos[name]
	fail := func(reason string, err error) error {
		return &Error{Path: f.path, Tensor: name, Reason: reason, Err: err}
	}
	size := info.DType.Size()
	switch {
	case !ok:
		return fail("no such tensor", nil)
	case !info.DType.isFloat():
		return fail(info.DType.noFloat().Error(), nil)
	case first < 0 || int64(first+len(v)) > info.Length/int64(size):
		return fail(fmt.Sprintf("%v does not hold %d numbers behind %d others", info.Shape, len(v), first), nil)
	}
	p, direct := bytesOf(v), info.DType == TypeF32 && isLittle
	if !direct {
		p = make([]byte, len(v)*size)
	}
	if err := readAt(f.data, p, info.Offset+int64(first*size)); err != nil {
		return fail("cannot read", unwrapPath(err))
	}
	if !direct {
		info.DType.floats(v, p)
	}
	return nil
}

// Int64 reads the named I64, I32, I16, I8, U32, U16 or U8 tensor as int64, and its shape.
func (f *File) Int64(name string) ([]int64, []int, error) {
	p, err := f.Bytes(name)
	if err != nil {
		return nil, nil, err
	}
	info := f.header.infos[name]
	v, err := Tensor{DType: info.DType, Shape: info.Shape, Data: p}.Int64()
	if err != nil {
		return nil, nil, &Error{Path: f.path, Tensor: name, Reason: err.Error()}
	}
	return v, slices.Clone(info.Shape), nil
}

// Tensor reads the named tensor whole.
func (f *File) Tensor(name string) (Tensor, error) {
	p, err := f.Bytes(name)
	if err != nil {
		return Tensor{}, err
	}
	info := f.header.infos[name]
	return Tensor{DType: info.DType, Shape: slices.Clone(info.Shape), Data: p}, nil
}

// Close releases the file.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

package safetensors

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func sample() map[string]Tensor {
	return map[string]Tensor{
		"b.weight": F32([]float32{1, -2.5, 3, 4, 5, 6}, 2, 3),
		"a.half":   F16([]float32{0.5, 1, -1}, 3),
		"a.bf":     BF16([]float32{2}, 1, 1),
		"c.bytes":  U8([]byte{1, 2, 3}, 3),
		"ids":      I64([]int64{-1, 1 << 40}, 2),
		"scalar":   F32([]float32{7}),
		"empty":    F32(nil, 0, 4),
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := Write(path, sample(), map[string]string{"format": "pt", "ключ": "\"<&>\n"}); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []string{"a.bf", "a.half", "b.weight", "c.bytes", "empty", "ids", "scalar"}
	if got := f.Names(); !reflect.DeepEqual(got, want) {
		t.Fatalf("names %v", got)
	}
	if m := f.Metadata(); m["ключ"] != "\"<&>\n" || m["format"] != "pt" {
		t.Fatalf("metadata %q", m)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tensor := range sample() {
		info, ok := f.Info(name)
		if !ok || info.Offset%int64(tensor.DType.Size()) != 0 {
			t.Fatalf("%s: %+v is missing or not aligned", name, info)
		}
		if got := whole[info.Offset : info.Offset+info.Length]; string(got) != string(tensor.Data) {
			t.Fatalf("%s: bytes at its absolute offset differ", name)
		}
		if got, err := f.Bytes(name); err != nil || string(got) != string(tensor.Data) {
			t.Fatalf("%s: %v %v", name, got, err)
		}
	}
	if v, shape, err := f.Float32("a.half"); err != nil || !reflect.DeepEqual(v, []float32{0.5, 1, -1}) || !reflect.DeepEqual(shape, []int{3}) {
		t.Fatal(v, shape, err)
	}
	if v, shape, err := f.Float32("scalar"); err != nil || v[0] != 7 || len(shape) != 0 {
		t.Fatal(v, shape, err)
	}
	if v, _, err := f.Int64("ids"); err != nil || v[0] != -1 || v[1] != 1<<40 {
		t.Fatal(v, err)
	}
	halves := []float32{0, 0, 0}
	if err := f.ReadFloat32("a.half", halves); err != nil || !reflect.DeepEqual(halves, []float32{0.5, 1, -1}) {
		t.Fatal(halves, err)
	}
	if err := f.ReadFloat32From("b.weight", 2, halves); err != nil || !reflect.DeepEqual(halves, []float32{3, 4, 5}) {
		t.Fatal(halves, err)
	}
	for _, first := range []int{-1, 4} {
		if err := f.ReadFloat32From("b.weight", first, halves); err == nil || halves[0] != 3 {
			t.Fatalf("three of six numbers were read from the %d-th on: %v", first, halves)
		}
	}
	if err := f.ReadFloat32("b.weight", halves); err == nil || !strings.Contains(err.Error(), "[2 3]") || halves[0] != 3 {
		t.Fatalf("six numbers were read into three: %v, %v", halves, err)
	}
	if _, _, err := f.Float32("ids"); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), `"ids"`) {
		t.Fatalf("error %v names no path or tensor", err)
	}
	if _, err := f.Bytes("nope"); err == nil {
		t.Fatal("a missing tensor was read")
	}
}

func TestFloat64Converts(t *testing.T) {
	p := binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1))
	v, err := Tensor{DType: TypeF64, Shape: []int{1}, Data: p}.Float32()
	if err != nil || v[0] != float32(0.1) {
		t.Fatal(v, err)
	}
}

// raw assembles a file from a header text and n data bytes.
func raw(header string, n int) []byte {
	p := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(p, header...), make([]byte, n)...)
}

func TestDamagedIsRefused(t *testing.T) {
	const one = `"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	cases := []struct {
		name string
		data []byte
		says string
	}{
		{"empty", nil, "truncated"},
		{"short prefix", []byte{1, 2, 3}, "truncated"},
		{"no header", raw("", 8), "too short"},
		{"header over file", append(binary.LittleEndian.AppendUint64(nil, 1000), '{', '}'), "does not fit"},
		{"header over limit", binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "limit"},
		{"not an object", raw(`[]`, 0), "'{'"},
		{"bad json", raw(`{"a`, 0), "bad header"},
		{"no end", raw(`{`+one, 8), "bad header"},
		{"bad json of a tensor", raw(`{"a":`, 0), "bad entry"},
		{"text after the header", raw(`{}{}`, 0), "bad header"},
		{"duplicate tensor", raw(`{`+one+`,`+one+`}`, 8), "duplicate"},
		{"duplicate field", raw(`{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "duplicate"},
		{"unknown field", raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}}`, 8), "bad entry"},
		{"missing field", raw(`{"a":{"dtype":"F32","shape":[2]}}`, 8), "needs dtype"},
		{"null shape", raw(`{"a":{"dtype":"F32","shape":null,"data_offsets":[0,8]}}`, 8), "bad entry"},
		{"unknown dtype", raw(`{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}`, 8), "unknown dtype"},
		{"three offsets", raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}`, 8), "not 2"},
		{"negative", raw(`{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}`, 8), "bad entry"},
		{"octal", raw(`{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}`, 8), "bad entry"},
		{"comma at the end", raw(`{`+one+`,}`, 8), "bad header"},
		{"comma in a list", raw(`{"a":{"dtype":"F32","shape":[2,],"data_offsets":[0,8]}}`, 8), "bad entry"},
		{"no UTF-8", raw("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8), "UTF-8"},
		{"line break in a name", raw("{\"\n\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8), "bad header"},
		{"text before the header's brace", raw(` {}`, 0), "'{'"},
		{"duplicate metadata", raw(`{"__metadata__":{},"__metadata__":{}}`, 0), "duplicate"},
		{"duplicate metadata field", raw(`{"__metadata__":{"a":"","a":""}}`, 0), "duplicate"},
		{"fraction", raw(`{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}`, 8), "bad entry"},
		{"backwards", raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}`, 8), "outside"},
		{"outside", raw(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}`, 8), "outside"},
		{"wrong length", raw(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "needs 12 bytes"},
		{"overflow", raw(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0), "overflows"},
		{"huge dimension", raw(`{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,0]}}`, 0), "overflows"},
		{"overlap", raw(`{`+one+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "overlaps"},
		{"same place", raw(`{`+one+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "overlaps"},
		{"gap", raw(`{`+one+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20), "unused"},
		{"trailing data", raw(`{`+one+`}`, 9), "follow"},
		{"metadata not text", raw(`{"__metadata__":{"a":1}}`, 0), "__metadata__"},
	}
	for _, c := range cases {
		f, err := Parse(c.data)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v; want an error with %q", c.name, f, err, c.says)
		}
	}
	if _, err := Parse(raw(`{`+one+`}   `, 8)); err != nil {
		t.Errorf("a padded header is refused: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	if err := Write(path, map[string]Tensor{"good": F32([]float32{1}, 1)}, nil); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tensor := range map[string]Tensor{
		"short":        F32([]float32{1}, 2),
		"dtype":        {DType: "F31", Shape: []int{0}},
		"negative":     F32(nil, -1),
		"__metadata__": F32([]float32{1}, 1),
	} {
		if err := Write(path, map[string]Tensor{name: tensor}, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || string(before) != string(after) {
		t.Fatal("a refused write changed the file", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Fatalf("a refused write left %v", left)
	}
}

// Before any work it is known whether a file can be made, and to ask leaves nothing behind.
func TestWritable(t *testing.T) {
	dir := t.TempDir()
	if err := Writable(filepath.Join(dir, "x.safetensors")); err != nil {
		t.Error(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "none", "x.safetensors")} {
		if err := Writable(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v", path, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpenNamesThePath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no.safetensors")
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Fatal("a folder was opened")
	}
}

func FuzzParse(f *testing.F) {
	good, err := Marshal(sample(), map[string]string{"k": "v"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(raw(`{"a":{"dtype":"F32","shape":[0,18446744073709551615],"data_offsets":[0,0]}}`, 0))
	f.Add(raw(`{"__metadata__":null}`, 0))
	f.Add(raw(`{ "__metadata__" : { "\u00e9\ud83d\ude00" : "\n" } , "é" : { "shape" : [ ] , "dtype" : "U8" , "data_offsets" : [ 0 , 1 ] } } `, 1))
	f.Add(raw(`{"__metadata__":{"a":"\ud800"},"b":{"dtype":"U8","shape":[01,],"data_offsets":[0,1]},}`, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		if n := binary.LittleEndian.Uint64(data); !jsontext.Value(data[prefixBytes:][:n]).IsValid() {
			t.Fatalf("the header %q is no JSON", data[prefixBytes:][:n])
		}
		// What was accepted can be read whole and written again to the same tensors.
		tensors := map[string]Tensor{}
		for _, name := range file.Names() {
			tensor, err := file.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			tensors[name] = tensor
		}
		again, err := Marshal(tensors, file.Metadata())
		if err != nil {
			t.Fatal(err)
		}
		second, err := Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(second.Names(), file.Names()) || !reflect.DeepEqual(second.Metadata(), file.Metadata()) {
			t.Fatal("writing changed names or metadata")
		}
	})
}

// What is mapped is what is read, and refused where that is.
func TestMap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	if err := Write(path, map[string]Tensor{"x": F32([]float32{1, 2, 3}, 3), "y": F16([]float32{4, 5}, 2)}, map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	f, err := Map(path)
	if err != nil {
		t.Fatal(err)
	}
	x, err := f.Tensor("x")
	if err != nil {
		t.Fatal(err)
	}
	if values, err := x.Float32(); err != nil || !slices.Equal(values, []float32{1, 2, 3}) {
		t.Errorf("x: %v, %v", values, err)
	}
	if values, _, err := f.Float32("y"); err != nil || !slices.Equal(values, []float32{4, 5}) {
		t.Errorf("y: %v, %v", values, err)
	}
	if f.Path() != path || f.Metadata()["k"] != "v" {
		t.Errorf("%s: %v", f.Path(), f.Metadata())
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Map(t.TempDir()); err == nil {
		t.Error("a folder was mapped")
	}
}

package safetensors

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	metadataKey = "__metadata__"
	prefixBytes = 8
	maxHeader   = 100_000_000 // the reference implementation's limit
)

type header struct {
	infos    map[string]Info
	names    []string // sorted
	metadata map[string]string
}

// headerLength checks the 8-byte prefix against the file's size.
func headerLength(path string, prefix uint64, fileSize int64) (int64, error) {
	switch {
	case prefix > maxHeader:
		return 0, &Error{Path: path, Reason: fmt.Sprintf("header of %d bytes is over the limit of %d", prefix, maxHeader)}
	case prefix < 2:
		return 0, &Error{Path: path, Reason: fmt.Sprintf("header of %d bytes is too short", prefix)}
	case int64(prefix) > fileSize-prefixBytes:
		return 0, &Error{Path: path, Reason: fmt.Sprintf("header of %d bytes does not fit a file of %d: the file is truncated", prefix, fileSize)}
	}
	return int64(prefix), nil
}

// parseHeader decodes and checks a header whose tensors start at byte dataStart of a file of fileSize bytes.
func parseHeader(path string, text []byte, dataStart, fileSize int64) (*header, error) {
	if text[0] != '{' {
		return nil, &Error{Path: path, Reason: "header does not start with '{'"}
	}
	likely := len(text) / 128 // tensors
	h := &header{infos: make(map[string]Info, likely), names: make([]string, 0, likely)}
	order := make([]Info, 0, likely) // as the header has them, which is most often their order in the file
	s := &scanner{json: text}
	err := s.object(func(key []byte) error {
		if string(key) == metadataKey {
			return h.parseMetadata(path, s)
		}
		name := string(key)
		if _, twice := h.infos[name]; twice {
			return &Error{Path: path, Tensor: name, Reason: "is a duplicate name"}
		}
		info, err := parseEntry(path, name, s, dataStart, fileSize)
		h.infos[name], h.names, order = info, append(h.names, name), append(order, info)
		return err
	})
	if s.skipSpace(); err == nil && s.at < len(text) {
		err = fmt.Errorf("text follows it at byte %d", s.at)
	}
	var own *Error
	if err != nil && !errors.As(err, &own) {
		err = &Error{Path: path, Reason: "bad header", Err: err}
	}
	if err != nil {
		return nil, err
	}
	if h.metadata == nil {
		h.metadata = map[string]string{}
	}
	slices.Sort(h.names)
	return h, checkContiguous(path, order, dataStart, fileSize)
}

func (h *header) parseMetadata(path string, s *scanner) error {
	if h.metadata != nil {
		return &Error{Path: path, Reason: "duplicate " + metadataKey}
	}
	h.metadata = map[string]string{}
	err := s.object(func(key []byte) error {
		name := string(key)
		if _, twice := h.metadata[name]; twice {
			return fmt.Errorf("duplicate field %q", name)
		}
		value, err := s.string()
		h.metadata[name] = string(value)
		return err
	})
	if err != nil {
		return &Error{Path: path, Reason: "bad " + metadataKey, Err: err}
	}
	return nil
}

// entry is what the header says of one tensor. Offsets count from the end of the header.
type entry struct {
	dtype          DType
	shape, offsets []uint64
}

// parse reads the fields of an entry, each once.
func (e *entry) parse(s *scanner) error {
	return s.object(func(field []byte) (err error) {
		switch {
		case string(field) == "dtype" && e.dtype == "":
			var text []byte
			text, err = s.string()
			e.dtype = DType(text)
		case string(field) == "shape" && e.shape == nil:
			e.shape, err = s.numbers()
		case string(field) == "data_offsets" && e.offsets == nil:
			e.offsets, err = s.numbers()
		default:
			err = fmt.Errorf("unknown or duplicate field %q", field)
		}
		return err
	})
}

func parseEntry(path, name string, s *scanner, dataStart, fileSize int64) (Info, error) {
	fail := func(err error, format string, args ...any) (Info, error) {
		return Info{}, &Error{Path: path, Tensor: name, Reason: fmt.Sprintf(format, args...), Err: err}
	}
	var e entry
	if err := e.parse(s); err != nil {
		return fail(err, "bad entry")
	}
	if e.dtype == "" || e.shape == nil || e.offsets == nil {
		return fail(nil, "entry needs dtype, shape and data_offsets")
	}
	if len(e.offsets) != 2 {
		return fail(nil, "data_offsets has %d numbers, not 2", len(e.offsets))
	}
	begin, end := e.offsets[0], e.offsets[1]
	if begin > end || end > uint64(fileSize-dataStart) {
		return fail(nil, "data_offsets [%d, %d] lie outside the %d bytes of data", begin, end, fileSize-dataStart)
	}
	shape := make([]int, len(e.shape))
	for i, dim := range e.shape {
		if dim > math.MaxInt {
			return fail(nil, "dimension %d overflows", dim)
		}
		shape[i] = int(dim)
	}
	want, problem := byteLength(e.dtype, shape)
	if problem != "" {
		return fail(nil, "%s", problem)
	}
	if got := int64(end - begin); got != want {
		return fail(nil, "%s%v needs %d bytes, data_offsets give %d", e.dtype, shape, want, got)
	}
	return Info{Name: name, DType: e.dtype, Shape: shape, Offset: dataStart + int64(begin), Length: want}, nil
}

// checkContiguous holds that the tensors, which it sorts by place, cover the data without gap or overlap, as the format demands.
func checkContiguous(path string, tensors []Info, dataStart, fileSize int64) error {
	slices.SortFunc(tensors, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Length, b.Length), strings.Compare(a.Name, b.Name))
	})
	next := dataStart
	for _, info := range tensors {
		if info.Offset < next {
			return &Error{Path: path, Tensor: info.Name, Reason: "overlaps another tensor"}
		}
		if info.Offset > next {
			return &Error{Path: path, Tensor: info.Name, Reason: fmt.Sprintf("%d unused bytes lie before it", info.Offset-next)}
		}
		next = info.Offset + info.Length
	}
	if next != fileSize {
		return &Error{Path: path, Reason: fmt.Sprintf("%d bytes follow the last tensor", fileSize-next)}
	}
	return nil
}

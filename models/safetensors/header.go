package safetensors

import (
	"fmt"
	"math"
	"sort"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	metadataKey = "__metadata__"
	prefixBytes = 8
	maxHeader   = 100_000_000 // the reference implementation's limit
)

// headerEntry is one tensor's entry in the JSON header. Offsets count from the end of the header.
type headerEntry struct {
	DType   *DType    `json:"dtype"`
	Shape   *[]uint64 `json:"shape"`
	Offsets *[]uint64 `json:"data_offsets"`
}

type header struct {
	infos    map[string]Info
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
// The JSON decoder itself refuses duplicate names and invalid UTF-8.
func parseHeader(path string, text []byte, dataStart, fileSize int64) (*header, error) {
	if text[0] != '{' {
		return nil, &Error{Path: path, Reason: "header does not start with '{'"}
	}
	var entries map[string]jsontext.Value
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, &Error{Path: path, Reason: "bad header", Err: err}
	}
	h := &header{infos: make(map[string]Info, len(entries)), metadata: map[string]string{}}
	for name, raw := range entries {
		if name == metadataKey {
			if err := json.Unmarshal(raw, &h.metadata); err != nil {
				return nil, &Error{Path: path, Reason: "bad " + metadataKey, Err: err}
			}
			if h.metadata == nil {
				return nil, &Error{Path: path, Reason: metadataKey + " is null"}
			}
			continue
		}
		info, err := parseEntry(path, name, raw, dataStart, fileSize)
		if err != nil {
			return nil, err
		}
		h.infos[name] = info
	}
	return h, checkContiguous(path, h.infos, dataStart, fileSize)
}

func parseEntry(path, name string, raw jsontext.Value, dataStart, fileSize int64) (Info, error) {
	fail := func(err error, format string, args ...any) (Info, error) {
		return Info{}, &Error{Path: path, Tensor: name, Reason: fmt.Sprintf(format, args...), Err: err}
	}
	var e headerEntry
	if err := json.Unmarshal(raw, &e, json.RejectUnknownMembers(true)); err != nil {
		return fail(err, "bad entry")
	}
	if e.DType == nil || e.Shape == nil || e.Offsets == nil {
		return fail(nil, "entry needs dtype, shape and data_offsets")
	}
	if len(*e.Offsets) != 2 {
		return fail(nil, "data_offsets has %d numbers, not 2", len(*e.Offsets))
	}
	begin, end := (*e.Offsets)[0], (*e.Offsets)[1]
	if begin > end || end > uint64(fileSize-dataStart) {
		return fail(nil, "data_offsets [%d, %d] lie outside the %d bytes of data", begin, end, fileSize-dataStart)
	}
	shape := make([]int, len(*e.Shape))
	for i, dim := range *e.Shape {
		if dim > math.MaxInt {
			return fail(nil, "dimension %d overflows", dim)
		}
		shape[i] = int(dim)
	}
	want, problem := byteLength(*e.DType, shape)
	if problem != "" {
		return fail(nil, "%s", problem)
	}
	if got := int64(end - begin); got != want {
		return fail(nil, "%s%v needs %d bytes, data_offsets give %d", *e.DType, shape, want, got)
	}
	return Info{Name: name, DType: *e.DType, Shape: shape, Offset: dataStart + int64(begin), Length: want}, nil
}

// checkContiguous holds that the tensors cover the data without gap or overlap, as the format demands.
func checkContiguous(path string, infos map[string]Info, dataStart, fileSize int64) error {
	order := make([]Info, 0, len(infos))
	for _, info := range infos {
		order = append(order, info)
	}
	sort.Slice(order, func(i, j int) bool {
		a, b := order[i], order[j]
		if a.Offset != b.Offset {
			return a.Offset < b.Offset
		}
		if a.Length != b.Length {
			return a.Length < b.Length
		}
		return a.Name < b.Name
	})
	next := dataStart
	for _, info := range order {
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

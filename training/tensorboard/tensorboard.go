// Package tensorboard writes logs that TensorBoard reads: scalars, images and texts, as TensorFlow event files.
//
// A file is a sequence of TFRecords (length, masked CRC-32C, data, masked CRC-32C), each an Event message of TensorFlow's event.proto.
package tensorboard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Writer appends events to one file. It is safe for concurrent use; every call that returns has reached the file.
type Writer struct {
	mu   sync.Mutex
	file *os.File
}

// Create opens a new event file in dir, making the folder if need be. A resumed run calls it again with the same folder: TensorBoard joins
// the files of a folder in the order of their names, which is that of their creation.
func Create(dir string) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	now := time.Now()
	name := fmt.Sprintf("events.out.tfevents.%d.%09d.%s.%d", now.Unix(), now.Nanosecond(), host, os.Getpid())
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	w := &Writer{file: f}
	if err := w.event(0, 3, []byte("brain.Event:2")); err != nil {
		f.Close()
		return nil, err
	}
	return w, nil
}

// Close ends the file.
func (w *Writer) Close() error { return w.file.Close() }

// Scalar records v under tag.
func (w *Writer) Scalar(tag string, step int, v float64) error {
	return w.summary(tag, step, func(b []byte) []byte {
		b = protowire.AppendTag(b, 2, protowire.Fixed32Type) // simple_value
		return protowire.AppendFixed32(b, math.Float32bits(float32(v)))
	})
}

// Image records img under tag, as a PNG.
func (w *Writer) Image(tag string, step int, img image.Image) error {
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, img); err != nil {
		return fmt.Errorf("image %s: %w", tag, err)
	}
	const rgba = 4
	var m []byte
	m = appendInt(m, 1, img.Bounds().Dy())
	m = appendInt(m, 2, img.Bounds().Dx())
	m = appendInt(m, 3, rgba)
	m = appendBytes(m, 4, encoded.Bytes())
	return w.summary(tag, step, func(b []byte) []byte { return appendBytes(b, 4, m) })
}

// Text records s, shown as Markdown, under tag.
func (w *Writer) Text(tag string, step int, s string) error {
	const dtString = 7
	tensor := appendInt(nil, 1, dtString)                                      // TensorProto.dtype
	tensor = appendBytes(tensor, 2, appendBytes(nil, 2, appendInt(nil, 1, 1))) // tensor_shape.dim.size: one string
	tensor = appendBytes(tensor, 8, []byte(s))                                 // string_val
	plugin := appendBytes(nil, 1, appendBytes(nil, 1, []byte("text")))         // SummaryMetadata.plugin_data.plugin_name
	return w.summary(tag, step, func(b []byte) []byte {
		return appendBytes(appendBytes(b, 8, tensor), 9, plugin)
	})
}

// summary writes an Event whose Summary has one value; content appends the value's own fields.
func (w *Writer) summary(tag string, step int, content func([]byte) []byte) error {
	value := content(appendBytes(nil, 1, []byte(tag)))
	if err := w.event(step, 5, appendBytes(nil, 1, value)); err != nil {
		return fmt.Errorf("log %s: %w", tag, err)
	}
	return nil
}

// event writes an Event with the content under the field what: 3 file_version, 5 summary.
func (w *Writer) event(step int, what protowire.Number, content []byte) error {
	b := protowire.AppendTag(nil, 1, protowire.Fixed64Type) // wall_time
	b = protowire.AppendFixed64(b, math.Float64bits(float64(time.Now().UnixMicro())/1e6))
	b = appendInt(b, 2, step)
	b = appendBytes(b, what, content)

	record := binary.LittleEndian.AppendUint64(nil, uint64(len(b)))
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(record))
	record = append(record, b...)
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(b))
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.file.Write(record)
	return err
}

func appendInt(b []byte, field protowire.Number, v int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maskedCRC is the CRC of TFRecord: rotated and shifted, so that data holding its own CRC is checked well.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

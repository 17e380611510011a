package tensorboard

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields is a message's fields by number: uint64 of varint and fixed ones, []byte of the rest.
type fields map[protowire.Number]any

func parse(t *testing.T, b []byte) fields {
	t.Helper()
	f := fields{}
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			f[num], n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f[num] = uint64(v)
		case protowire.Fixed64Type:
			f[num], n = protowire.ConsumeFixed64(b)
		default:
			f[num], n = protowire.ConsumeBytes(b)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
	}
	return f
}

func (f fields) message(t *testing.T, path ...protowire.Number) fields {
	t.Helper()
	for _, num := range path {
		f = parse(t, f[num].([]byte))
	}
	return f
}

// crc32c computes the checksum bit by bit, independently of the writer's table.
func crc32c(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0x82f63b78&-(c&1)
		}
	}
	return ^c
}

func readEvents(t *testing.T, path string) []fields {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte, stored uint32) {
		t.Helper()
		unmasked := stored - 0xa282ead8
		if got, want := unmasked>>17|unmasked<<15, crc32c(data); got != want {
			t.Fatalf("%s: CRC %08x, want %08x", path, got, want)
		}
	}
	var events []fields
	for len(b) > 0 {
		size := binary.LittleEndian.Uint64(b)
		check(b[:8], binary.LittleEndian.Uint32(b[8:]))
		data := b[12 : 12+size]
		check(data, binary.LittleEndian.Uint32(b[12+size:]))
		events = append(events, parse(t, data))
		b = b[16+size:]
	}
	return events
}

func TestChecksumOfTheStandard(t *testing.T) { // RFC 3720, B.4: 32 bytes of zeros
	if got := crc32c(make([]byte, 32)); got != 0x8a9136aa {
		t.Errorf("CRC-32C of 32 zeros is %08x", got)
	}
}

func TestEventsReadBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	w, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	img.Set(2, 1, color.NRGBA{R: 200, G: 10, B: 5, A: 255})
	for _, err := range []error{w.Scalar("loss", 7, 0.625), w.Image("samples", 300, img), w.Text("prompt", 0, "a *sketch*"), w.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	events := readEvents(t, names[0])
	if len(events) != 4 || string(events[0][3].([]byte)) != "brain.Event:2" {
		t.Fatalf("%d events, the first %v", len(events), events[0])
	}
	for i, want := range []struct {
		tag  string
		step uint64
	}{{"loss", 7}, {"samples", 300}, {"prompt", 0}} {
		e := events[i+1]
		if tag := string(e.message(t, 5, 1)[1].([]byte)); tag != want.tag || e[2] != want.step {
			t.Errorf("event %d is %q at step %v, want %q at %d", i, tag, e[2], want.tag, want.step)
		}
		if wall := math.Float64frombits(e[1].(uint64)); wall < 1e9 {
			t.Errorf("event %d at second %g", i, wall)
		}
	}
	if v := math.Float32frombits(uint32(events[1].message(t, 5, 1)[2].(uint64))); v != 0.625 {
		t.Errorf("scalar %g", v)
	}
	m := events[2].message(t, 5, 1, 4)
	back, err := png.Decode(bytes.NewReader(m[4].([]byte)))
	if err != nil || m[1] != uint64(2) || m[2] != uint64(3) || back.At(2, 1) != img.At(2, 1) {
		t.Errorf("image %v × %v: %v", m[1], m[2], err)
	}
	value := events[3].message(t, 5, 1)
	if s, p := string(value.message(t, 8)[8].([]byte)), string(value.message(t, 9, 1)[1].([]byte)); s != "a *sketch*" || p != "text" {
		t.Errorf("text %q of plugin %q", s, p)
	}
}

func TestResumedRunAddsAFile(t *testing.T) {
	dir := t.TempDir()
	for step := range 3 {
		w, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Scalar("loss", step, 1); err != nil {
			t.Fatal(err)
		}
		w.Close()
	}
	names, _ := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	slices.Sort(names)
	if len(names) != 3 {
		t.Fatal(names)
	}
	for step, name := range names {
		if got := readEvents(t, name)[1][2]; got != uint64(step) {
			t.Errorf("file %d in order of names is of step %v", step, got)
		}
	}
}

func TestErrorsNameWhatFailed(t *testing.T) {
	w, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := w.Scalar("loss", 0, 1); err == nil || !bytes.Contains([]byte(err.Error()), []byte("loss")) {
		t.Errorf("a closed log says %v", err)
	}
}

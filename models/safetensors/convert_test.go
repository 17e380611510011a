package safetensors

import (
	"math"
	"slices"
	"testing"
	"unsafe"
)

// halfValue is the closed form of IEEE 754 with 5 exponent and 10 mantissa bits, in float64.
func halfValue(h uint16) float64 {
	s, e, m := 1.0, int(h>>10&31), float64(h&1023)
	if h&0x8000 != 0 {
		s = -1
	}
	switch {
	case e == 31 && m != 0:
		return math.NaN()
	case e == 31:
		return s * math.Inf(1)
	case e == 0:
		return s * math.Ldexp(m, -24)
	}
	return s * math.Ldexp(1024+m, e-25)
}

func TestFloat16EveryValue(t *testing.T) {
	for i := 0; i < 1<<16; i++ {
		h := uint16(i)
		want, got := halfValue(h), FromFloat16(h)
		if math.IsNaN(want) {
			if got == got || !math.IsNaN(float64(FromFloat16(ToFloat16(got)))) {
				t.Fatalf("%#04x: NaN is lost", h)
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("%#04x: got %v, want %v", h, got, want)
		}
		if back := ToFloat16(got); back != h {
			t.Fatalf("%#04x: comes back as %#04x", h, back)
		}
	}
}

// Between two neighbours the midpoint goes to the even one and everything else to the nearer one.
func TestFloat16Rounding(t *testing.T) {
	for h := uint16(0); h < 0x7c00; h++ {
		lo, hi := halfValue(h), halfValue(h+1)
		if h == 0x7bff {
			hi = 65536 // where infinity starts, as if the exponent range went on
		}
		mid := float32((lo + hi) / 2)
		even := h + h&1
		for _, c := range []struct {
			f    float32
			want uint16
		}{{mid, even}, {math.Nextafter32(mid, 0), h}, {math.Nextafter32(mid, math.MaxFloat32), h + 1}} {
			if got := ToFloat16(c.f); got != c.want {
				t.Fatalf("%v: got %#04x, want %#04x", c.f, got, c.want)
			}
			if got := ToFloat16(-c.f); got != c.want|0x8000 {
				t.Fatalf("%v: got %#04x, want %#04x", -c.f, got, c.want|0x8000)
			}
		}
	}
}

func TestBFloat16EveryValue(t *testing.T) {
	for i := 0; i < 1<<16; i++ {
		h := uint16(i)
		f := FromBFloat16(h)
		if f != f {
			if g := FromBFloat16(ToBFloat16(f)); g == g {
				t.Fatalf("%#04x: NaN is lost", h)
			}
			continue
		}
		if got := ToBFloat16(f); got != h {
			t.Fatalf("%#04x: comes back as %#04x", h, got)
		}
		if h&0x7fff >= 0x7f80 {
			continue
		}
		mid := math.Float32frombits(uint32(h)<<16 | 0x8000)
		if got, want := ToBFloat16(mid), h+h&1; got != want {
			t.Fatalf("%v: got %#04x, want %#04x", mid, got, want)
		}
		if got := ToBFloat16(math.Float32frombits(uint32(h)<<16 | 0x7fff)); got != h {
			t.Fatalf("below the midpoint of %#04x: got %#04x", h, got)
		}
		if got := ToBFloat16(math.Float32frombits(uint32(h)<<16 | 0x8001)); got != h+1 {
			t.Fatalf("above the midpoint of %#04x: got %#04x", h, got)
		}
	}
}

// Numbers are read wherever their bytes begin; where they can be, they are those bytes, and with what lies behind.
func TestNumbersInPlace(t *testing.T) {
	want := []float32{1, -2, float32(math.Inf(1)), 1e-40}
	bytes := append(make([]byte, 8), F32(want, 4).Data...)
	for shift := range 4 {
		moved := append(make([]byte, shift), bytes...)
		data := moved[shift+8:]
		got, err := Tensor{DType: TypeF32, Shape: []int{2}, Data: data[:8]}.Float32()
		if err != nil || !slices.Equal(got, want[:2]) {
			t.Fatalf("shifted by %d: got %v, %v", shift, got, err)
		}
		data[7] ^= 0x80
		if inPlace := got[1] == 2; inPlace != (uintptr(unsafe.Pointer(&data[0]))%4 == 0 && isLittle) {
			t.Errorf("shifted by %d: in place: %v", shift, inPlace)
		} else if inPlace && !slices.Equal(got[:4][2:], want[2:]) {
			t.Errorf("behind lie %v", got[:4][2:])
		}
	}
}

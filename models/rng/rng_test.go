package rng

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"testing"
)

// Every draw has the bytes of torch.randn (scripts/golden/rng.py).
func TestCPUGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/cpu.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Seed        uint64
		Sizes       []int
		SHA256      []string
		First, Last []float32
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range cases {
		g := NewCPU(c.Seed)
		for i, n := range c.Sizes {
			out := make([]float32, n)
			g.Normal(out)
			var p []byte
			for _, v := range out {
				p = binary.LittleEndian.AppendUint32(p, math.Float32bits(v))
			}
			sum := sha256.Sum256(p)
			if out[0] != c.First[i] || out[n-1] != c.Last[i] || hex.EncodeToString(sum[:]) != c.SHA256[i] {
				t.Errorf("seed %d, draw %d of %v: got %v … %v, want %v … %v and equal bytes between",
					c.Seed, i, c.Sizes, out[0], out[n-1], c.First[i], c.Last[i])
			}
		}
	}
}

// The published test vector of MT19937: the 10,000th output for the default seed (C++ standard, rand.predef).
func TestMersenneTwister(t *testing.T) {
	g := NewCPU(5489)
	var w uint32
	for range 10000 {
		w = g.word()
	}
	if w != 4123659995 {
		t.Fatal(w)
	}
}

// Against exact arithmetic, with operands that make a double rounding visible.
func TestFMA(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	check := func(x, y, z float32) {
		t.Helper()
		exact := new(big.Float).SetPrec(400).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
		exact.Add(exact, big.NewFloat(float64(z)))
		want, _ := exact.Float32()
		if got := fma(x, y, z); got != want {
			t.Fatalf("fma(%v, %v, %v) = %v, want %v", x, y, z, got, want)
		}
	}
	for range 200000 {
		scale := float32(math.Ldexp(1, r.IntN(60)-30))
		check(r.Float32()-0.5, r.Float32()-0.5, (r.Float32()-0.5)*scale)
	}
	// 1 + 2^-24 is midway between two float32; the product's last bit decides, far below float64's precision.
	tie := float32(math.Ldexp(1, -24))
	for _, sign := range []float32{1, -1} {
		check(tie*(1+0x1p-23), sign, 1)
		check(tie*(1-0x1p-24), sign, 1)
		check(0x1.000002p-12, sign*0x1p-12, 1)
		check(0x1.fffffep-36, sign*0x1.fffffep-36, 1+0x1p-23)
	}
}

func TestLogSinCos(t *testing.T) {
	for i := 1; i <= 1<<20; i++ {
		x := float32(i) / (1 << 20)
		if got, want := float64(log32(x)), math.Log(float64(x)); math.Abs(got-want) > 1.2e-7*math.Max(math.Abs(want), 1) {
			t.Fatalf("log %v = %v, want %v", x, got, want)
		}
		a := x * 2 * math.Pi
		s, c := sincos32(a)
		ws, wc := math.Sincos(float64(a))
		if math.Abs(float64(s)-ws) > 1.5e-7 || math.Abs(float64(c)-wc) > 1.5e-7 {
			t.Fatalf("sincos %v = %v %v, want %v %v", a, s, c, ws, wc)
		}
	}
}

// Known answers of Random123's kat_vectors, philox4x32 with 10 rounds.
func TestPhiloxVectors(t *testing.T) {
	const m = math.MaxUint32
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{m, m, m, m}, [2]uint32{m, m}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		if got := philox4x32(c.counter, c.key); got != c.want {
			t.Errorf("%x under %x: %x, want %x", c.counter, c.key, got, c.want)
		}
	}
}

// torch.randn(12, device="cuda") after manual_seed(0), as published with several re-implementations.
func TestPhiloxNormal(t *testing.T) {
	want := []float64{
		-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564,
		-0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497,
	}
	g := NewPhilox(0)
	out := make([]float32, 12)
	g.Normal(out)
	for i, w := range want {
		if math.Abs(float64(out[i])-w) > 2e-6 {
			t.Fatalf("element %d: %v, want %v", i, out[i], w)
		}
	}
	again := make([]float32, 12)
	g.Normal(again)
	if again[0] == out[0] {
		t.Fatal("a second call gives the same numbers")
	}
}

func TestMoments(t *testing.T) {
	for name, g := range map[string]Generator{"cpu": NewCPU(3), "philox": NewPhilox(1<<40 + 3)} {
		const n = 200000
		out := make([]float32, n)
		g.Normal(out)
		var mean, square float64
		for _, v := range out {
			mean += float64(v) / n
			square += float64(v) * float64(v) / n
		}
		if math.Abs(mean) > 0.01 || math.Abs(square-1) > 0.015 {
			t.Errorf("%s: mean %v, second moment %v", name, mean, square)
		}
	}
}

func BenchmarkCPULatents(b *testing.B) {
	out := make([]float32, 4*64*64)
	for b.Loop() {
		NewCPU(1).Normal(out)
	}
}

package rng

import "math"

// Philox is PyTorch's CUDA generator: Philox4x32-10 (Salmon et al. 2011) with one subsequence an element, as the
// normal kernel uses it while a tensor has no more elements than the GPU has resident threads (221,184 on an A100).
// The transform is in float64, so values agree with CUDA's float32 functions to about 1e-6.
type Philox struct {
	key    [2]uint32
	offset uint64 // one more for each call
}

// NewPhilox seeds a generator as torch.Generator("cuda").manual_seed(seed) does.
func NewPhilox(seed uint64) *Philox {
	return &Philox{key: [2]uint32{uint32(seed), uint32(seed >> 32)}}
}

// Normal implements Generator.
func (g *Philox) Normal(out []float32) {
	const scale = 1.0 / (1 << 32)
	for i := range out {
		counter := [4]uint32{uint32(g.offset), uint32(g.offset >> 32), uint32(i), uint32(uint64(i) >> 32)}
		r := philox4x32(counter, g.key)
		u := (float64(r[0]) + 0.5) * scale
		v := (float64(r[1]) + 0.5) * scale
		out[i] = float32(math.Sqrt(-2*math.Log(u)) * math.Sin(2*math.Pi*v))
	}
	g.offset++
}

// philox4x32 is ten rounds of Philox.
func philox4x32(c [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		a, b := 0xd2511f53*uint64(c[0]), 0xcd9e8d57*uint64(c[2])
		c = [4]uint32{uint32(b>>32) ^ c[1] ^ key[0], uint32(b), uint32(a>>32) ^ c[3] ^ key[1], uint32(a)}
		key[0] += 0x9e3779b9
		key[1] += 0xbb67ae85
	}
	return c
}

package rng

import "math"

const (
	mtWords = 624
	mtShift = 397
)

// CPU is PyTorch's CPU generator: MT19937 and, for float32, the Box-Muller transforms of ATen's normal kernel. It
// gives the bits of PyTorch's x86-64 builds on a machine with AVX2.
type CPU struct {
	state  [mtWords]uint32
	next   int     // index of the next word of state; mtWords: generate anew
	spare  float64 // the second half of the last scalar Box-Muller pair
	cached bool    // whether spare is still to be used
}

// NewCPU seeds a generator as torch.Generator().manual_seed(seed) does; PyTorch uses the low 32 bits.
func NewCPU(seed uint64) *CPU {
	g := &CPU{next: mtWords}
	g.state[0] = uint32(seed)
	for i := 1; i < mtWords; i++ {
		prev := g.state[i-1]
		g.state[i] = 1812433253*(prev^prev>>30) + uint32(i)
	}
	return g
}

// word is the next output of MT19937 (Matsumoto and Nishimura 1998).
func (g *CPU) word() uint32 {
	if g.next == mtWords {
		for i := range g.state {
			mix := g.state[i]&0x80000000 | g.state[(i+1)%mtWords]&0x7fffffff
			next := g.state[(i+mtShift)%mtWords] ^ mix>>1
			if mix&1 != 0 {
				next ^= 0x9908b0df
			}
			g.state[i] = next
		}
		g.next = 0
	}
	y := g.state[g.next]
	g.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// uniform is in [0, 1), of 24 bits.
func (g *CPU) uniform() float32 {
	return float32(g.word()&(1<<24-1)) * (1.0 / (1 << 24))
}

// uniform64 is in [0, 1), of 53 bits.
func (g *CPU) uniform64() float64 {
	high, low := uint64(g.word()), uint64(g.word())
	return float64((high<<32|low)&(1<<53-1)) * (1.0 / (1 << 53))
}

// Normal implements Generator. Below 16 elements PyTorch works in float64, one value at a time; from 16 on it
// transforms blocks of 16 uniforms and, if a rest is left, draws the last 16 once more.
func (g *CPU) Normal(out []float32) {
	if len(out) < 16 {
		for i := range out {
			out[i] = float32(g.scalar())
		}
		return
	}
	for i := range out {
		out[i] = g.uniform()
	}
	whole := len(out) - len(out)%16
	for i := 0; i < whole; i += 16 {
		boxMuller16(out[i : i+16])
	}
	if whole < len(out) {
		last := out[len(out)-16:]
		for i := range last {
			last[i] = g.uniform()
		}
		boxMuller16(last)
	}
}

// scalar is one normal in float64; every second one is the spare of the pair before.
func (g *CPU) scalar() float64 {
	if g.cached {
		g.cached = false
		return g.spare
	}
	u1, u2 := g.uniform64(), g.uniform64()
	radius := math.Sqrt(-2 * math.Log1p(-u2))
	sin, cos := math.Sincos(2 * math.Pi * u1)
	g.spare, g.cached = radius*sin, true
	return radius * cos
}

// boxMuller16 turns 16 uniforms into normals: p[j] and p[j+8] make a pair.
func boxMuller16(p []float32) {
	for j := range 8 {
		radius := float32(math.Sqrt(float64(-2 * log32(1-p[j]))))
		sin, cos := sincos32(float32(2*math.Pi) * p[j+8])
		p[j] = radius * cos
		p[j+8] = radius * sin
	}
}

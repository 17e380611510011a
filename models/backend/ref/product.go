package ref

import (
	"fmt"
	"slices"

	"likeness/models/op"
)

func (b *builder) MatMul(x, y op.Value) (op.Value, error) {
	t, err := operands(op.Float32, x, y)
	if err != nil {
		return nil, err
	}
	p, q := t[0].dims, t[1].dims
	r, s := len(p), len(q)
	if r < 2 || s < 2 || p[r-1] != q[s-2] {
		return nil, fmt.Errorf("dims %v and %v", p, q)
	}
	lead, err := broadcast(p[:r-2], q[:s-2])
	if err != nil {
		return nil, err
	}
	m, k, n := p[r-2], p[r-1], q[s-1]
	out, sums := floats(append(lead, m, n)), make([]float64, n)
	left, right := spread(p[:r-2], lead), spread(q[:s-2], lead)
	for i := range left {
		l, w := t[0].f[left[i]*m*k:], t[1].f[right[i]*k*n:]
		for row := range m {
			clear(sums)
			for j, v := range l[row*k : (row+1)*k] {
				for col, u := range w[j*n : (j+1)*n] {
					sums[col] += float64(v) * float64(u)
				}
			}
			store(out.f[(i*m+row)*n:], sums)
		}
	}
	return out, nil
}

func store(to []float32, sums []float64) {
	for i, v := range sums {
		to[i] = float32(v)
	}
}

func (b *builder) Conv2D(x, weight, bias op.Value, stride, padding int) (op.Value, error) {
	t, err := operands(op.Float32, x, weight)
	if err != nil {
		return nil, err
	}
	in, k := t[0].dims, t[1].dims
	if len(in) != 4 || len(k) != 4 || in[1] != k[1] || stride < 1 || padding < 0 || min(in[2]-k[2], in[3]-k[3]) < -2*padding {
		return nil, fmt.Errorf("image of dims %v, kernel of dims %v, stride %d, padding %d", in, k, stride, padding)
	}
	shift := make([]float32, k[0])
	if bias != nil {
		v, err := operands(op.Float32, bias)
		if err != nil {
			return nil, err
		}
		if shift = v[0].f; !slices.Equal(v[0].dims, k[:1]) {
			return nil, fmt.Errorf("bias of dims %v, kernel of dims %v", v[0].dims, k)
		}
	}
	h, w := (in[2]+2*padding-k[2])/stride+1, (in[3]+2*padding-k[3])/stride+1
	out, sums := floats([]int{in[0], k[0], h, w}), make([]float64, h*w)
	image, kernel := op.Size(in[1:]), op.Size(k[1:])
	for i := range in[0] {
		for o := range k[0] {
			for j := range sums {
				sums[j] = float64(shift[o])
			}
			c := correlation{t[0].f[i*image : (i+1)*image], t[1].f[o*kernel : (o+1)*kernel], in[1:], k[1:], stride, padding}
			c.add(sums, h, w)
			store(out.f[(i*k[0]+o)*h*w:], sums)
		}
	}
	return out, nil
}

// correlation is one image [C, H, W] with one kernel [C, kh, kw].
type correlation struct {
	image, kernel       []float32
	imageDims, kernDims []int
	stride, padding     int
}

// add adds it to sums [h, w].
func (c correlation) add(sums []float64, h, w int) {
	height, width := c.imageDims[1], c.imageDims[2]
	for i, v := range c.kernel {
		channel, ky, kx := i/(c.kernDims[1]*c.kernDims[2]), i/c.kernDims[2]%c.kernDims[1], i%c.kernDims[2]
		for oy := range h {
			y := oy*c.stride + ky - c.padding
			if y < 0 || y >= height {
				continue
			}
			row := c.image[(channel*height+y)*width:][:width]
			for ox := range w {
				if x := ox*c.stride + kx - c.padding; x >= 0 && x < width {
					sums[oy*w+ox] += float64(v) * float64(row[x])
				}
			}
		}
	}
}

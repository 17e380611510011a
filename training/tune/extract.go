package tune

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"

	"likeness/encoder/concept"
)

// How the dominant singular vectors of a change are looked for: with so many more than are wanted, in so many rounds.
const (
	oversampling = 16
	rounds       = 3
)

// extract is about the change of a rank that is nearest to a change [out, in] (Eckart and Young 1936), and the square of what it leaves out: an
// orthonormal basis of the change's range is found by subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), which is exact
// where it has all dimensions.
func extract(change []float32, out, in, rank int) (d concept.Delta, left float64, err error) {
	data, square := make([]float64, len(change)), 0.0
	for i, v := range change {
		data[i] = float64(v)
		square += data[i] * data[i]
	}
	a := mat.NewDense(out, in, data)
	k := min(rank+oversampling, out, in)
	r := rand.New(rand.NewPCG(uint64(out), uint64(in)))
	basis := mat.NewDense(in, k, nil)
	basis.Apply(func(_, _ int, _ float64) float64 { return r.NormFloat64() }, basis)
	for range rounds {
		var image, domain mat.Dense
		image.Mul(a, basis)
		domain.Mul(a.T(), orthonormal(&image))
		basis = orthonormal(&domain)
	}
	// The change is about a · basis · basisᵀ.
	var seen, u, v, right mat.Dense
	seen.Mul(a, basis)
	var svd mat.SVD
	if !svd.Factorize(&seen, mat.SVDThin) {
		return d, 0, fmt.Errorf("the singular values of a change [%d, %d] were not found", out, in)
	}
	svd.UTo(&u)
	svd.VTo(&v)
	right.Mul(basis, &v)
	d = concept.Delta{In: in, Out: out, Rank: min(rank, k)}
	left = square
	for n, s := range svd.Values(nil)[:d.Rank] {
		left -= s * s
		root := math.Sqrt(s)
		for i := range in {
			d.Down = append(d.Down, float32(root*right.At(i, n)))
		}
		for o := range out {
			d.Up = append(d.Up, float32(root*u.At(o, n)))
		}
	}
	return d, max(left, 0), nil
}

// orthonormal makes the columns of m, which are no more than its rows, an orthonormal basis of what they span.
func orthonormal(m *mat.Dense) *mat.Dense {
	rows, columns := m.Dims()
	tau, size := make([]float64, columns), make([]float64, 1)
	lapack64.Geqrf(m.RawMatrix(), tau, size, -1)
	work := make([]float64, max(int(size[0]), rows))
	lapack64.Geqrf(m.RawMatrix(), tau, work, len(work))
	lapack64.Orgqr(m.RawMatrix(), tau, work, len(work))
	return m
}

// changesOf are those of singular values, for shifts.
func changesOf(values, shifts []float32) []float64 {
	changes := make([]float64, len(shifts))
	for i, value := range values {
		changes[i] = max(float64(value)+float64(shifts[i]), 0) - float64(value)
	}
	return changes
}

// strongest is the change u · diag(changes) · v of a weight [out, in] that the largest changes make, at most rank of them, and the square of
// what the others make: the spectrum is of the change too, so that no change of the rank is nearer.
func strongest(u []float32, changes []float64, v []float32, rank int) (d concept.Delta, left float64) {
	order := make([]int, len(changes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(math.Abs(changes[b]), math.Abs(changes[a])) })
	k := len(changes)
	d = concept.Delta{In: len(v) / k, Out: len(u) / k, Rank: min(rank, k)}
	for place, i := range order {
		if place >= d.Rank {
			left += changes[i] * changes[i]
			continue
		}
		root := math.Sqrt(math.Abs(changes[i]))
		for _, x := range v[i*d.In : (i+1)*d.In] {
			d.Down = append(d.Down, float32(root*float64(x)))
		}
		for o := range d.Out {
			d.Up = append(d.Up, float32(math.Copysign(root, changes[i])*float64(u[o*k+i])))
		}
	}
	return d, left
}

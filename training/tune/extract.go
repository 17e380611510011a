package tune

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"

	"likeness/encoder/concept"
)

// extract is the change of a rank that is nearest to a change [out, in] (Eckart and Young 1936), and the square of what it leaves out.
func extract(change []float32, out, in, rank int) (d concept.Delta, left float64, err error) {
	data := make([]float64, len(change))
	for i, v := range change {
		data[i] = float64(v)
	}
	var svd mat.SVD
	if !svd.Factorize(mat.NewDense(out, in, data), mat.SVDThin) {
		return d, 0, fmt.Errorf("the singular values of a change [%d, %d] were not found", out, in)
	}
	var u, v mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	values := svd.Values(nil)
	d = concept.Delta{In: in, Out: out, Rank: min(rank, len(values))}
	for k, s := range values {
		if k >= d.Rank {
			left += s * s
			continue
		}
		root := math.Sqrt(s)
		for i := range in {
			d.Down = append(d.Down, float32(root*v.At(i, k)))
		}
		for o := range out {
			d.Up = append(d.Up, float32(root*u.At(o, k)))
		}
	}
	return d, left, nil
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

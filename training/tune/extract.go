package tune

import (
	"fmt"
	"math"

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

package evaluate

import (
	"math/rand/v2"
	"slices"
)

// Interval is a mean over pictures with the 95 % interval of a bootstrap over persons, whose pictures are not independent.
type Interval struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

const resamples = 1000

// bootstrap is the interval of values[person][picture] (Efron 1979, percentile method, whole persons drawn with replacement).
func bootstrap(values [][]float64) Interval {
	var sums, counts []float64
	for _, of := range values {
		sum := 0.0
		for _, v := range of {
			sum += v
		}
		sums, counts = append(sums, sum), append(counts, float64(len(of)))
	}
	mean := func(pick func(i int) int) float64 {
		var sum, count float64
		for i := range sums {
			k := pick(i)
			sum, count = sum+sums[k], count+counts[k]
		}
		return sum / max(count, 1)
	}
	r := rand.New(rand.NewPCG(95, 0x626f6f74))
	means := make([]float64, resamples)
	for i := range means {
		means[i] = mean(func(int) int { return r.IntN(len(sums)) })
	}
	slices.Sort(means)
	return Interval{Mean: mean(func(i int) int { return i }), Low: means[resamples*25/1000], High: means[resamples*975/1000]}
}

// cosine of two embeddings of unit length.
func cosine(a, b []float32) float64 {
	sum := 0.0
	for i, v := range a {
		sum += float64(v) * float64(b[i])
	}
	return sum
}

// nearest is the index of the gallery's embedding most like e.
func nearest(gallery [][]float32, e []float32) int {
	best := 0
	for i := range gallery {
		if cosine(gallery[i], e) > cosine(gallery[best], e) {
			best = i
		}
	}
	return best
}

// present is the share of the wanted facets that were seen.
func present(seen, wanted [6]int) float64 {
	n := 0
	for i, v := range wanted {
		if seen[i] == v {
			n++
		}
	}
	return float64(n) / float64(len(wanted))
}

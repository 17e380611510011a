//go:build torch

package pretrain

import "testing"

// A place among the features of a face weighs more than one of the head's, and that more than one around it; together they weigh as much as
// they are.
func TestPlaceWeights(t *testing.T) {
	const side = 16
	weights := placeWeights(side, side)
	sum := float32(0)
	for _, v := range weights {
		sum += v
	}
	if mean := sum / side / side; mean < 0.9999 || mean > 1.0001 {
		t.Errorf("the mean is %g", mean)
	}
	at := func(x, y int) float32 { return weights[y*side+x] }
	mouth, hair, ground := at(8, 10), at(8, 4), at(0, 0)
	if !(mouth > 2*hair && hair > 1.5*ground && ground > 0) {
		t.Errorf("mouth %g, hair %g, ground %g", mouth, hair, ground)
	}
}

package evaluate

import (
	"testing"

	"gonum.org/v1/plot/vg"
)

// In a crowd every name keeps off what is taken, stays inside, and is clearly nearest to its own point; where there is no room at all it
// still stands inside.
func TestNamesKeepApart(t *testing.T) {
	inside := vg.Rectangle{Max: vg.Point{X: 400, Y: 300}}
	points := []vg.Point{{X: 200, Y: 150}, {X: 210, Y: 150}, {X: 205, Y: 160}, {X: 205, Y: 140}, {X: 395, Y: 295}, {X: 3, Y: 2}}
	size := vg.Point{X: 80, Y: 10}
	var taken []vg.Rectangle
	for _, p := range points {
		taken = append(taken, around(p, pointSize, pointSize))
	}
	for i := range points {
		place := free(points, i, size, inside, taken)
		if !within(place, inside) {
			t.Errorf("name %d is outside, at %v", i, place)
		}
		for _, r := range taken {
			if overlap(place, r) {
				t.Errorf("name %d at %v covers %v", i, place, r)
			}
		}
		for j, p := range points {
			if own, other := distance(points[i], place), distance(p, place); j != i && other < own+clearly {
				t.Errorf("name %d at %v is %.1f from its point, %.1f from point %d", i, place, own, other, j)
			}
		}
		taken = append(taken, place)
	}
	if place := free(points, 0, size, inside, []vg.Rectangle{inside}); !within(place, inside) {
		t.Errorf("with no room, a name stands at %v", place)
	}
}

package evaluate

import (
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Measures in points, a 72nd of an inch.
const (
	pointSize = 5 // radius
	ringSize  = 7 // of a reference: a ring around what stands at the same place
	clearly   = 4 // how much nearer a name is to its own point than to others
)

// methods draws the rows' points, coloured by time, and their names where they cover no point, no interval and no other name.
type methods struct {
	rows  []Compared
	times palette.ColorMap
}

func (m methods) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	at := make([]vg.Point, len(m.rows))
	var taken []vg.Rectangle
	for i, r := range m.rows {
		place := r.at()
		at[i] = vg.Point{X: x(place.X), Y: y(place.Y)}
		taken = append(taken, around(at[i], pointSize, pointSize),
			vg.Rectangle{Min: vg.Point{X: x(100 * r.Editability.Low), Y: at[i].Y - 1}, Max: vg.Point{X: x(100 * r.Editability.High), Y: at[i].Y + 1}},
			vg.Rectangle{Min: vg.Point{X: at[i].X - 1, Y: y(100 * r.Rank1.Low)}, Max: vg.Point{X: at[i].X + 1, Y: y(100 * r.Rank1.High)}})
	}
	style := draw.TextStyle{Color: color.Black, Font: plot.DefaultFont, XAlign: draw.XCenter, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}
	style.Font.Size = vg.Points(10)
	for i, r := range m.rows {
		name := free(at, i, nameSize(style, r.Method), c.Rectangle, taken)
		taken = append(taken, name)
		lead(c, at[i], name)
		c.FillText(style, middle(name), r.Method)
	}
	for i, r := range m.rows {
		m.point(c, r, at[i])
	}
}

// point draws a row's mark, with a white edge that tells it from one below.
func (m methods) point(c draw.Canvas, r Compared, at vg.Point) {
	if r.Reference {
		c.DrawGlyph(draw.GlyphStyle{Color: quiet, Radius: ringSize, Shape: draw.RingGlyph{}}, at)
		return
	}
	c.DrawGlyph(draw.GlyphStyle{Color: color.White, Radius: pointSize + 0.8, Shape: draw.CircleGlyph{}}, at)
	if colour, err := m.times.At(logarithm(r.seconds())); err == nil {
		c.DrawGlyph(draw.GlyphStyle{Color: colour, Radius: pointSize, Shape: draw.CircleGlyph{}}, at)
	}
}

// nameSize is the room of a name: a fifth wider than written, for who reads an SVG with another font.
func nameSize(style draw.TextStyle, name string) vg.Point {
	return vg.Point{X: text.Style(style).Width(name) * 1.2, Y: style.Font.Size}
}

// free is the place for the i-th name which is nearest to its point, clearly farther from all others, and free of what is taken: beside the
// point, or farther in one of many directions. The plot's lower right, if all is full.
func free(points []vg.Point, i int, size vg.Point, inside vg.Rectangle, taken []vg.Rectangle) vg.Rectangle {
	const directions = 32
	fits := func(place vg.Rectangle) bool {
		own := distance(points[i], place)
		return within(place, inside) && !slices.ContainsFunc(taken, func(r vg.Rectangle) bool { return overlap(r, place) }) &&
			!slices.ContainsFunc(points, func(p vg.Point) bool { return p != points[i] && distance(p, place) < own+clearly })
	}
	for far := vg.Length(ringSize + 2); far < inside.Max.X-inside.Min.X; far += 4 {
		for d := range directions {
			sin, cos := math.Sincos(math.Pi * float64(turn(d)) / (directions / 2))
			towards := vg.Point{X: vg.Length(cos) * (far + size.X/2), Y: vg.Length(sin) * (far + size.Y/2)}
			if place := around(points[i].Add(towards), size.X/2, size.Y/2); fits(place) {
				return place
			}
		}
	}
	return vg.Rectangle{Min: vg.Point{X: inside.Max.X - size.X, Y: inside.Min.Y}, Max: vg.Point{X: inside.Max.X, Y: inside.Min.Y + size.Y}}
}

// turn is the i-th direction to look in: to the right first, then on either side of that.
func turn(i int) int {
	if i%2 == 1 {
		return (i + 1) / 2
	}
	return -i / 2
}

// lead draws a line from a point to its name where that is not right beside it.
func lead(c draw.Canvas, point vg.Point, name vg.Rectangle) {
	if distance(point, name) > ringSize+6 {
		end := closest(point, name)
		c.StrokeLine2(draw.LineStyle{Color: quiet, Width: 0.5}, point.X, point.Y, end.X, end.Y)
	}
}

func distance(p vg.Point, r vg.Rectangle) float64 {
	d := closest(p, r).Sub(p)
	return math.Hypot(float64(d.X), float64(d.Y))
}

// closest is the point of r which is closest to p.
func closest(p vg.Point, r vg.Rectangle) vg.Point {
	return vg.Point{X: min(max(p.X, r.Min.X), r.Max.X), Y: min(max(p.Y, r.Min.Y), r.Max.Y)}
}

func around(centre vg.Point, x, y vg.Length) vg.Rectangle {
	return vg.Rectangle{Min: vg.Point{X: centre.X - x, Y: centre.Y - y}, Max: vg.Point{X: centre.X + x, Y: centre.Y + y}}
}

func middle(r vg.Rectangle) vg.Point {
	return vg.Point{X: (r.Min.X + r.Max.X) / 2, Y: (r.Min.Y + r.Max.Y) / 2}
}

func within(r, outer vg.Rectangle) bool {
	return r.Min.X >= outer.Min.X && r.Max.X <= outer.Max.X && r.Min.Y >= outer.Min.Y && r.Max.Y <= outer.Max.Y
}

func overlap(a, b vg.Rectangle) bool {
	return a.Min.X < b.Max.X && b.Min.X < a.Max.X && a.Min.Y < b.Max.Y && b.Min.Y < a.Max.Y
}

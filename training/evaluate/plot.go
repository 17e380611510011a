package evaluate

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Measures of the plot.
const (
	plotWidth  = 20 * vg.Centimeter
	plotHeight = 13 * vg.Centimeter
	barWidth   = 2.6 * vg.Centimeter // of the key to colours, on the right
	pointSize  = 5
)

var (
	fainter = color.Gray{232}
	faint   = color.Gray{190}
	quiet   = color.Gray{130}
)

// savePlot draws identity against editability, with time as colour, to path.svg and path.png.
func (c *Comparison) savePlot(path string) error {
	svg := vgsvg.New(plotWidth, plotHeight)
	png := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(plotWidth, plotHeight), vgimg.UseDPI(144))}
	for suffix, canvas := range map[string]interface {
		vg.CanvasSizer
		io.WriterTo
	}{".svg": svg, ".png": png} {
		if err := c.plot(draw.New(canvas)); err != nil {
			return fmt.Errorf("%s: %w", path+suffix, err)
		}
		f, err := os.Create(path + suffix)
		if err != nil {
			return err
		}
		_, err = canvas.WriteTo(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// plot draws the points, and the key to their colours at their right.
func (c *Comparison) plot(canvas draw.Canvas) error {
	times := c.times()
	p := plot.New()
	p.Title.Text = fmt.Sprintf("persons: %d, photos of each: %d", c.Persons, c.Photos)
	p.X.Label.Text = "editability: what the prompt asks for is seen, %"
	p.Y.Label.Text = fmt.Sprintf("identity: the person is found among %d, %%", c.Gallery)
	p.X.Padding, p.Y.Padding = 0, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = fainter, fainter
	p.Add(grid)
	for _, r := range c.Rows {
		if err := addPoint(p, r, times); err != nil {
			return fmt.Errorf("%s: %w", r.Method, err)
		}
	}
	margin(&p.X, 0.22) // the names stand at the right of the points
	margin(&p.Y, 0.06)
	if err := addNames(p, c.Rows); err != nil {
		return err
	}

	key := plot.New()
	key.Title.Text = "time"
	key.HideX()
	key.Add(&plotter.ColorBar{ColorMap: times, Vertical: true})
	key.Y.Tick.Marker = plot.TickerFunc(decades)
	key.Y.Padding = 0

	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	width := canvas.Max.X - canvas.Min.X
	p.Draw(draw.Crop(canvas, 6, -barWidth, 6, -6))
	key.Draw(draw.Crop(canvas, width-barWidth+6, -8, 30, -12))
	return nil
}

// times maps the decimal logarithm of seconds to colours, from blue to red, over whole decades.
func (c *Comparison) times() palette.ColorMap {
	low, high := math.Inf(1), math.Inf(-1)
	for _, r := range c.Rows {
		if !r.Reference {
			low, high = min(low, logarithm(r.seconds())), max(high, logarithm(r.seconds()))
		}
	}
	if low > high {
		low, high = 0, 1
	}
	colours := moreland.SmoothBlueRed()
	colours.SetMin(math.Floor(low))
	colours.SetMax(max(math.Ceil(high), math.Floor(low)+1))
	return colours
}

// logarithm of seconds; nothing is faster than a millisecond.
func logarithm(seconds float64) float64 { return math.Log10(max(seconds, 1e-3)) }

// decades are the marks of a logarithmic axis of seconds.
func decades(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for d := math.Ceil(low); d <= high; d++ {
		label := fmt.Sprintf("%g s", math.Pow(10, d))
		if d < 0 {
			label = fmt.Sprintf("%g ms", math.Pow(10, d+3))
		}
		ticks = append(ticks, plot.Tick{Value: d, Label: label})
	}
	return ticks
}

// margin lengthens an axis on both sides by a twentieth, and by a share at its end.
func margin(a *plot.Axis, end float64) {
	span := max(a.Max-a.Min, 1)
	a.Min, a.Max = a.Min-span/20, a.Max+span*end
}

// addPoint draws a row with its intervals.
func addPoint(p *plot.Plot, r Compared, times palette.ColorMap) error {
	at := plotter.XYs{{X: 100 * r.Editability.Mean, Y: 100 * r.Rank1.Mean}}
	across, err := plotter.NewXErrorBars(struct {
		plotter.XYs
		plotter.XErrors
	}{at, plotter.XErrors(errorBar(r.Editability))})
	if err != nil {
		return err
	}
	upright, err := plotter.NewYErrorBars(struct {
		plotter.XYs
		plotter.YErrors
	}{at, plotter.YErrors(errorBar(r.Rank1))})
	if err != nil {
		return err
	}
	across.Color, upright.Color = faint, faint
	point, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	point.GlyphStyle = draw.GlyphStyle{Color: quiet, Radius: pointSize, Shape: draw.RingGlyph{}}
	if !r.Reference {
		point.Shape = draw.CircleGlyph{}
		if point.Color, err = times.At(logarithm(r.seconds())); err != nil {
			return err
		}
	}
	p.Add(across, upright, point)
	return nil
}

// addNames writes the rows' names beside their points, lower where an earlier one is in the way. Axes must be as they are drawn.
func addNames(p *plot.Plot, rows []Compared) error {
	const wide, high = 0.24, 0.034 // of a name, as parts of the plot
	type spot struct{ x, y float64 }
	var taken []spot
	for _, r := range rows {
		x, y := 100*r.Editability.Mean, 100*r.Rank1.Mean
		s, lower := spot{(x - p.X.Min) / (p.X.Max - p.X.Min), (y - p.Y.Min) / (p.Y.Max - p.Y.Min)}, 0
		for slices.ContainsFunc(taken, func(o spot) bool { return math.Abs(o.x-s.x) < wide && math.Abs(o.y-s.y) < high }) {
			s.y -= high
			lower++
		}
		taken = append(taken, s)
		name, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{r.Method}})
		if err != nil {
			return fmt.Errorf("%s: %w", r.Method, err)
		}
		name.Offset = vg.Point{X: pointSize + 3, Y: -pointSize - vg.Length(lower)*high*plotHeight}
		p.Add(name)
	}
	return nil
}

// errorBar is how far an interval, in per cent, reaches from its mean.
func errorBar(i Interval) []struct{ Low, High float64 } {
	return []struct{ Low, High float64 }{{100 * max(i.Mean-i.Low, 0), 100 * max(i.High-i.Mean, 0)}}
}

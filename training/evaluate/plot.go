package evaluate

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"

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
)

var (
	fainter = color.Gray{232}
	faint   = color.Gray{205}
	quiet   = color.Gray{110}
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
	p.Y.Label.Text = fmt.Sprintf("identity: found among %d persons, %%", c.Gallery)
	p.X.Padding, p.Y.Padding = 0, 0
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = fainter, fainter
	p.Add(grid)
	for _, r := range c.Rows {
		if err := addInterval(p, r); err != nil {
			return fmt.Errorf("%s: %w", r.Method, err)
		}
	}
	p.Add(methods{c.Rows, times})
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		margin(axis)
		axis.Tick.Marker = plot.TickerFunc(percents)
	}

	key := plot.New()
	key.Title.Text = "time"
	key.HideX()
	key.Add(scale{times})
	key.Y.Tick.Marker = plot.TickerFunc(decades)
	key.Y.Padding = 0

	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	width := canvas.Max.X - canvas.Min.X
	p.Draw(draw.Crop(canvas, 12, -barWidth, 6, -6))
	key.Draw(draw.Crop(canvas, width-barWidth+12, -8, 30, -12))
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

// percents are the usual marks, written without places that say nothing.
func percents(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for i := range ticks {
		if ticks[i].Label != "" {
			ticks[i].Label = fmt.Sprintf("%.4g", ticks[i].Value)
		}
	}
	return ticks
}

// margin lengthens an axis on both sides.
func margin(a *plot.Axis) {
	more := max(a.Max-a.Min, 1) / 8
	a.Min, a.Max = a.Min-more, a.Max+more
}

// addInterval draws how sure a row's two shares are.
func addInterval(p *plot.Plot, r Compared) error {
	at := plotter.XYs{r.at()}
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
	p.Add(across, upright)
	return nil
}

// at is a row's place in the plot, in per cent.
func (r Compared) at() plotter.XY {
	return plotter.XY{X: 100 * r.Editability.Mean, Y: 100 * r.Rank1.Mean}
}

// errorBar is how far an interval, in per cent, reaches from its mean.
func errorBar(i Interval) []struct{ Low, High float64 } {
	return []struct{ Low, High float64 }{{100 * max(i.Mean-i.Low, 0), 100 * max(i.High-i.Mean, 0)}}
}

// scale draws a map's colours along the upright axis: as areas, since a picture of one pixel's width is not stretched in an SVG.
type scale struct{ colours palette.ColorMap }

func (s scale) DataRange() (xmin, xmax, ymin, ymax float64) {
	return 0, 1, s.colours.Min(), s.colours.Max()
}

func (s scale) Plot(c draw.Canvas, p *plot.Plot) {
	const bands = 64
	_, y := p.Transforms(&c)
	low, step := s.colours.Min(), (s.colours.Max()-s.colours.Min())/bands
	for i := range bands {
		from := low + float64(i)*step
		colour, err := s.colours.At(from + step/2)
		if err != nil {
			continue
		}
		area := vg.Rectangle{Min: vg.Point{X: c.Min.X, Y: y(from)}, Max: c.Max} // the next ones paint over the rest
		c.SetColor(colour)
		c.Fill(area.Path())
	}
}

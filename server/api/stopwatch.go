package api

import "time"

// stopwatch measures the parts of an answer in milliseconds.
type stopwatch struct {
	start, last time.Time
	laps        map[string]float64
}

func newStopwatch() *stopwatch {
	t := time.Now()
	return &stopwatch{t, t, map[string]float64{}}
}

// lap names the time since the lap before.
func (w *stopwatch) lap(name string) {
	t := time.Now()
	w.laps[name] = milliseconds(t.Sub(w.last))
	w.last = t
}

// add names a part that was measured elsewhere.
func (w *stopwatch) add(name string, d time.Duration) { w.laps[name] = milliseconds(d) }

// total adds the whole to the laps and returns them.
func (w *stopwatch) total() map[string]float64 {
	w.laps["total"] = milliseconds(time.Since(w.start))
	return w.laps
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

//go:build torch

package loop

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// line reports a run on stderr: rewritten in place on a terminal, a new line now and then elsewhere. It also feeds the log.
type line struct {
	batch    int
	terminal bool
	shown    time.Time
	since    int // steps since shown
	sums     map[string]float64
}

func newLine(batch int) *line {
	info, err := os.Stderr.Stat()
	return &line{batch: batch, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0, shown: time.Now(), sums: map[string]float64{}}
}

// add takes a step's metrics; their means since the last report are what is shown and logged. It fails where the log cannot be written.
func (l *line) add(r *run, metrics map[string]float64) error {
	l.since++
	for name, v := range metrics {
		l.sums[name] += v
	}
	every := 20 * time.Second
	if l.terminal {
		every = 2 * time.Second
	}
	if time.Since(l.shown) < every {
		return nil
	}
	speed := float64(l.since*l.batch) / time.Since(l.shown).Seconds()
	var names []string
	for name := range l.sums {
		l.sums[name] /= float64(l.since)
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	errs := []error{r.log.Scalar("samples_per_second", r.step, speed)}
	for _, name := range names {
		fmt.Fprintf(&b, "  %s %.4g", name, l.sums[name])
		errs = append(errs, r.log.Scalar(name, r.step, l.sums[name]))
	}
	fmt.Fprintf(os.Stderr, "%sstep %d%s  %.1f samples/s  %s left%s", l.start(), r.step, b.String(), speed, left(r), l.stop())
	l.shown, l.since, l.sums = time.Now(), 0, map[string]float64{}
	return errors.Join(errs...)
}

func (l *line) start() string {
	if l.terminal {
		return "\r\x1b[K"
	}
	return ""
}

func (l *line) stop() string {
	if l.terminal {
		return ""
	}
	return "\n"
}

func (l *line) end(r *run) {
	fmt.Fprintf(os.Stderr, "%strained %d steps in %s, saved in %s\n", l.start(), r.step, r.elapsed.Round(time.Second), r.Dir)
}

// left estimates the training time that remains from the part that is done.
func left(r *run) time.Duration {
	p := r.progress()
	if p <= 0 {
		return 0
	}
	return time.Duration(float64(r.elapsed) * (1 - p) / p).Round(time.Second)
}

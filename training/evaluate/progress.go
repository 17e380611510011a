package evaluate

import (
	"fmt"
	"os"
	"time"
)

// progress returns a function that reports on stderr, in place on a terminal and now and then elsewhere, with the time left. say puts what
// is done into words.
func progress(say func(done, total int) string) func(row string, done, total int) {
	info, err := os.Stderr.Stat()
	every, begin, end := 20*time.Second, "", "\n"
	if err == nil && info.Mode()&os.ModeCharDevice != 0 {
		every, begin, end = time.Second, "\r\x1b[K", ""
	}
	began, first, shown := time.Time{}, 0, time.Time{}
	return func(row string, done, total int) {
		if began.IsZero() { // real renders are quick: the time counts from the first picture that a model made
			began, first = time.Now(), done
		}
		switch {
		case done == total && end == "":
			fmt.Fprint(os.Stderr, begin)
		case done > first && time.Since(shown) >= every:
			shown = time.Now()
			left := time.Since(began) / time.Duration(done-first) * time.Duration(total-done)
			fmt.Fprintf(os.Stderr, "%s%s: %s, %s left%s", begin, row, say(done, total), left.Round(time.Second), end)
		}
	}
}

func ofPictures(done, total int) string { return fmt.Sprintf("%d of %d pictures", done, total) }

func ofWork(done, total int) string { return fmt.Sprintf("%d %% of all work", 100*done/max(total, 1)) }

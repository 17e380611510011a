package memory

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestFreeMemory takes the least of machine, control groups and limit, without the page cache.
func TestFreeMemory(t *testing.T) {
	root := t.TempDir()
	if got := (Meter{Root: root}).Free(); got != math.MaxInt64 {
		t.Errorf("%d bytes where nothing is known", got)
	}
	write := func(file, text string) {
		t.Helper()
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is := func(limit float64, want int64) {
		t.Helper()
		if got := (Meter{root, limit}).Free(); got != want {
			t.Errorf("%d bytes are free, want %d", got, want)
		}
	}
	write("proc/meminfo", "MemTotal:       8000000 kB\nMemFree:         100000 kB\nMemAvailable:   4000000 kB\n")
	is(0, 4000000<<10)
	write("proc/self/cgroup", "0::/app/likeness\n")
	write("sys/fs/cgroup/app/likeness/memory.max", "max\n")
	write("sys/fs/cgroup/app/likeness/memory.current", "5\n")
	is(0, 4000000<<10)
	write("sys/fs/cgroup/app/memory.max", "3000000000\n")
	write("sys/fs/cgroup/app/memory.current", "2500000000\n")
	write("sys/fs/cgroup/app/memory.stat", "anon 1500000000\nfile 1000000000\nfile_mapped 7\n")
	is(0, 1_500_000_000)
	write("proc/self/status", "Name:\tserver\nVmRSS:\t 900000 kB\nRssAnon:\t  500000 kB\n")
	is(1, 1_000_000_000-500_000<<10)
	is(0.1, 0)
	if got := (Meter{Root: "/"}).Free(); got < 1<<20 || got == math.MaxInt64 {
		t.Errorf("this machine has %d bytes free", got)
	}
	for name, of := range map[string]func(Meter) int64{"resident": Meter.Resident, "peak": Meter.Peak} {
		if got := of(Meter{Root: "/"}); got < 1<<20 || got > 1<<40 {
			t.Errorf("%s: %d bytes", name, got)
		}
		if got := of(Meter{Root: t.TempDir()}); got != 0 {
			t.Errorf("%s: %d bytes where nothing is known", name, got)
		}
	}
}

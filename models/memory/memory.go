// Package memory reads from the kernel how much memory there is.
package memory

import (
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Gigabyte is the unit of limits.
const Gigabyte = 1e9

// Meter reads the kernel's files below a root.
type Meter struct {
	Root  string  // "/", but for tests
	Limit float64 // gigabytes that this process may take up; 0: no limit of its own
}

// Free is the bytes that are left: the least of what the machine has, what its control groups leave and what the limit does. Where nothing
// can be read, all there are.
func (m Meter) Free() int64 {
	least := int64(math.MaxInt64)
	if available, ok := m.field("proc/meminfo", "MemAvailable:"); ok {
		least = available
	}
	for _, group := range m.groups() {
		if left, ok := m.groupFree(group); ok {
			least = min(least, left)
		}
	}
	if m.Limit > 0 {
		own, _ := m.field("proc/self/status", "RssAnon:") // mapped files leave when memory is needed
		least = min(least, int64(m.Limit*Gigabyte)-own)
	}
	return max(least, 0)
}

// Resident is the bytes that this process holds, and Peak the most that it held; 0 where that cannot be read. Mapped files are in both.
func (m Meter) Resident() int64 {
	n, _ := m.field("proc/self/status", "VmRSS:")
	return n
}

// Peak: see Resident.
func (m Meter) Peak() int64 {
	n, _ := m.field("proc/self/status", "VmHWM:")
	return n
}

// field reads "name   number kB" of a file of lines.
func (m Meter) field(file, name string) (int64, bool) {
	data, err := os.ReadFile(filepath.Join(m.Root, file))
	if err != nil {
		return 0, false
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// groups are the folders of the control groups, version 2, that this process is in: its own and those around it.
func (m Meter) groups() []string {
	data, err := os.ReadFile(filepath.Join(m.Root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		own, ok := strings.CutPrefix(line, "0::")
		if !ok {
			continue
		}
		folders := []string{"sys/fs/cgroup"}
		for own = path.Clean("/" + own); own != "/"; own = path.Dir(own) {
			folders = append(folders, "sys/fs/cgroup"+own)
		}
		return folders
	}
	return nil
}

// groupFree is what a control group's limit leaves; the page cache, which is its too, leaves when memory is needed.
func (m Meter) groupFree(folder string) (int64, bool) {
	read := func(name string) (int64, bool) {
		data, err := os.ReadFile(filepath.Join(m.Root, folder, name))
		n, parseErr := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		return n, err == nil && parseErr == nil
	}
	limit, limited := read("memory.max") // or "max"
	used, known := read("memory.current")
	if !limited || !known {
		return 0, false
	}
	data, err := os.ReadFile(filepath.Join(m.Root, folder, "memory.stat"))
	if err == nil {
		for line := range strings.SplitSeq(string(data), "\n") {
			var cached int64
			if n, _ := fmt.Sscanf(line, "file %d", &cached); n == 1 {
				used -= cached
			}
		}
	}
	return limit - used, true
}

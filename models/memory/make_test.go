package memory

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// A large piece lies where the kernel was asked for large pages: smaps says hg of its mapping.
func TestMake(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("this kernel has no large pages")
	}
	s := Make[float32](1 << 20)
	if len(s) != 1<<20 || slices.ContainsFunc(s, func(v float32) bool { return v != 0 }) {
		t.Fatal("these are not as many zeros")
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	middle, found := uintptr(unsafe.Pointer(&s[len(s)/2])), false
	for line := range strings.SplitSeq(string(maps), "\n") {
		var begin, end uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &begin, &end); n == 2 {
			found = begin <= middle && middle < end
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && found && !slices.Contains(strings.Fields(flags), "hg") {
			t.Errorf("the mapping's flags are %s", flags)
		}
	}
}

//go:build torch

package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The program starts anew, once, with what is missing of its environment, and leaves what its user set.
func TestSettle(t *testing.T) {
	c := exec.Command(os.Args[0], "--help")
	c.Env = []string{asCommand + "=environment", "GOMP_SPINCOUNT=7"}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, want := range []string{"GOMP_SPINCOUNT=7", "MALLOC_TRIM_THRESHOLD_=8589934592", "MALLOC_MMAP_THRESHOLD_=4294967296"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not in %q", want, lines)
		}
	}
}

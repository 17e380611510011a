//go:build torch

package main

import (
	"os"
	"syscall"
)

// environment is what glibc and OpenMP read as a process starts, as for_training of scripts/env has it. Freed memory is kept, which training
// takes again at every step (a fifth of the time). Threads that wait for each other spin for a moment only and then sleep: OpenMP's own 300,000
// turns take the processor from those they wait for where anything else runs, as the server that started this worker does (beside four busy
// processes on two cores a step took 15 times as long), and sleeping at once makes a step take 1.5 to 1.8 times as long where nothing does.
var environment = map[string]string{
	"MALLOC_TRIM_THRESHOLD_": "8589934592",
	"MALLOC_MMAP_THRESHOLD_": "4294967296",
	"GOMP_SPINCOUNT":         "5000",
}

// settle starts the program anew with what is missing of the environment. Where that fails it goes on as it is, only slower.
func settle() {
	missing := false
	for name, value := range environment {
		if _, ok := os.LookupEnv(name); !ok {
			missing = true
			os.Setenv(name, value)
		}
	}
	if self, err := os.Executable(); missing && err == nil {
		_ = syscall.Exec(self, os.Args, os.Environ())
	}
}

package ort

/*
#include <malloc.h>

// One heap, since runs of several would leave memory in each; blocks below 32 MB, the most that glibc allows, stay in it between the operations of
// a run and between runs, larger ones are the system's as soon as they are free.
static void settle_heap(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
}

static void trim_heap(void) { malloc_trim(0); }
*/
import "C"

import "os"

// settleHeap sets how the process keeps memory that ONNX Runtime has freed, unless the environment does.
func settleHeap() {
	if os.Getenv("MALLOC_ARENA_MAX")+os.Getenv("MALLOC_MMAP_THRESHOLD_")+os.Getenv("MALLOC_TRIM_THRESHOLD_") == "" {
		C.settle_heap()
	}
}

// trimHeap gives free memory back to the system.
func trimHeap() { C.trim_heap() }

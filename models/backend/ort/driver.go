package ort

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>

// load opens a library for good, its symbols for those that come after it; the answer is dlerror's text, or null.
static const char* load(const char* path) {
	return dlopen(path, RTLD_NOW | RTLD_GLOBAL) ? NULL : dlerror();
}

// gpus asks the driver: 0, or the CUresult of the call that failed; -1: it lacks a function.
static int gpus(const char* path, int* count, int* version) {
	void* driver = dlopen(path, RTLD_NOW);
	if (!driver) return -1;
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
	int (*get_count)(int*) = (int (*)(int*))dlsym(driver, "cuDeviceGetCount");
	int (*get_version)(int*) = (int (*)(int*))dlsym(driver, "cuDriverGetVersion");
	if (!init || !get_count || !get_version) return -1;
	int failed = get_version(version);
	if (!failed) failed = init(0);
	if (!failed) failed = get_count(count);
	return failed;
}

static struct sigaction handlers[32];

static void save_handlers(void) {
	for (int i = 1; i < 32; i++) sigaction(i, NULL, &handlers[i]);
}

static void restore_handlers(void) {
	for (int i = 1; i < 32; i++) sigaction(i, &handlers[i], NULL);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"
)

// driver is the library that comes with NVIDIA's kernel module.
const driver = "libcuda.so.1"

// load opens a shared library for good.
func load(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	if text := C.load(name); text != nil {
		return errors.New(C.GoString(text))
	}
	return nil
}

// driverError is what the driver answers instead of a list of GPUs: a CUresult, or -1 where it is no such library.
type driverError int

// Answers of the driver that have a known remedy (CUresult of cuda.h).
const (
	errNoDevice driverError = 100
	errMismatch driverError = 803 // of the driver's library and its kernel module
)

func (e driverError) Error() string { return fmt.Sprintf("CUDA error %d", int(e)) }

// gpus asks the driver how many GPUs there are, and up to which version of CUDA it goes, as 13000.
func gpus() (count, version int, err error) {
	name := C.CString(driver)
	defer C.free(unsafe.Pointer(name))
	var n, v C.int
	if code := C.gpus(name, &n, &v); code != 0 {
		return 0, int(v), driverError(code)
	}
	return int(n), int(v), nil
}

var signals sync.Mutex

// keepSignals calls f and then puts the signal handlers back: the CUDA provider replaces Go's by ones without a stack of their own, on
// which the next interrupt would end the program (yalue/onnxruntime_go#140).
func keepSignals(f func() error) error {
	signals.Lock()
	defer signals.Unlock()
	C.save_handlers()
	defer C.restore_handlers()
	return f()
}

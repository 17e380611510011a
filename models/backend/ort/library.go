// Package ort runs the graphs of package onnx on ONNX Runtime, which it loads when the program starts to use it.
package ort

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	runtime "github.com/yalue/onnxruntime_go"
)

// Version is ONNX Runtime's, as scripts/setup installs it.
const Version = "1.29.0"

// LibraryPath is where scripts/setup puts the library: under $LIKENESS_NATIVE, or else in likeness/native of the user's cache folder.
func LibraryPath() string {
	native := os.Getenv("LIKENESS_NATIVE")
	if native == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			cache = os.TempDir()
		}
		native = filepath.Join(cache, "likeness", "native")
	}
	return filepath.Join(native, "onnxruntime-"+Version, "libonnxruntime.so."+Version)
}

var library struct {
	sync.Mutex
	path string // of the one that is loaded
}

// Init loads the library at path, once in a process: again with the same path does nothing, with another is an error.
func Init(path string) error {
	library.Lock()
	defer library.Unlock()
	if library.path == path {
		return nil
	}
	if stat, err := os.Stat(path); err != nil || !stat.Mode().IsRegular() {
		return fmt.Errorf("onnx runtime library %s is not there: run scripts/setup", path)
	}
	if library.path != "" {
		return fmt.Errorf("onnx runtime %s: %s is loaded already", path, library.path)
	}
	runtime.SetSharedLibraryPath(path)
	if err := runtime.InitializeEnvironment(runtime.WithLogLevelFatal()); err != nil {
		return fmt.Errorf("onnx runtime library %s: version %s or newer is needed: %w", path, Version, err)
	}
	library.path = path
	settleHeap()
	return nil
}

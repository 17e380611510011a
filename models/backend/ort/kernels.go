package ort

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	runtime "github.com/yalue/onnxruntime_go"
)

//go:embed kernels/*.cpp kernels/*.h
var kernelSources embed.FS

// kernelsFolder is named after what the operators are compiled from, so that changed sources never meet an older library.
var kernelsFolder = sync.OnceValue(func() string {
	h := sha256.New()
	files, _ := fs.Glob(kernelSources, "kernels/*") // sorted; a good pattern never fails
	for _, name := range files {
		source, _ := kernelSources.ReadFile(name) // it is embedded
		h.Write(source)
	}
	return "kernels-" + hex.EncodeToString(h.Sum(nil))[:12]
})

// kernelsPath is where scripts/setup puts the operators of folder kernels, compiled: beside ONNX Runtime.
func kernelsPath() string {
	return filepath.Join(filepath.Dir(filepath.Dir(LibraryPath())), kernelsFolder(), "liblikeness_kernels.so")
}

// addKernels has a session know the operators of domain likeness.
func addKernels(s *runtime.SessionOptions) error {
	path := kernelsPath()
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("operators %s are not there: run scripts/setup", path)
	}
	if err := s.RegisterCustomOpsLibrary(path); err != nil {
		return fmt.Errorf("operators %s: %w", path, err)
	}
	return nil
}

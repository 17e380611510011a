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

// kernelsPath is where scripts/setup puts the operators of folder kernels, compiled: beside ONNX Runtime, under a name that changes with
// their sources.
var kernelsPath = sync.OnceValue(func() string {
	h := sha256.New()
	files, _ := fs.Glob(kernelSources, "kernels/*") // sorted; a good pattern never fails
	for _, name := range files {
		source, _ := kernelSources.ReadFile(name) // it is embedded
		h.Write(source)
	}
	folder := "kernels-" + hex.EncodeToString(h.Sum(nil))[:12]
	return filepath.Join(filepath.Dir(filepath.Dir(LibraryPath())), folder, "liblikeness_kernels.so")
})

// addKernels has a session know the operators of domain likeness.
func addKernels(s *runtime.SessionOptions) error {
	if _, err := os.Stat(kernelsPath()); err != nil {
		return fmt.Errorf("operators %s are not there: run scripts/setup", kernelsPath())
	}
	if err := s.RegisterCustomOpsLibrary(kernelsPath()); err != nil {
		return fmt.Errorf("operators %s: %w", kernelsPath(), err)
	}
	return nil
}

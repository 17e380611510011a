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

	"likeness/models/backend/onnx"
	"likeness/models/op"
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
	err := meetDomain(path)
	if err == nil {
		err = s.RegisterCustomOpsLibrary(path)
	}
	if err != nil {
		return fmt.Errorf("operators %s: %w", path, err)
	}
	return nil
}

var domain struct {
	sync.Mutex
	known bool
}

// meetDomain opens a first session by itself. ONNX Runtime 1.29 looks whether it knows a domain and, if not, adds it, without a lock: of two
// sessions that do so at once, one fails ("the domain is already exist").
func meetDomain(path string) error {
	domain.Lock()
	defer domain.Unlock()
	if domain.known {
		return nil
	}
	g, err := onnx.Emit(func(s op.Scope) map[string]op.Tensor {
		return map[string]op.Tensor{"y": s.Input("x", op.Float32, 1)}
	}, onnx.FromArrays(nil), onnx.Options{Name: "domain"})
	if err != nil {
		return err
	}
	options, err := runtime.NewSessionOptions()
	if err != nil {
		return err
	}
	defer options.Destroy()
	if err := options.RegisterCustomOpsLibrary(path); err != nil {
		return err
	}
	session, err := runtime.NewDynamicAdvancedSessionWithONNXData(g.Model, names(g.Inputs), names(g.Outputs), options)
	if err != nil {
		return err
	}
	domain.known = true
	return session.Destroy()
}

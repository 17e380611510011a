package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/klauspost/cpuid/v2"
	runtime "github.com/yalue/onnxruntime_go"

	"likeness/models/backend/onnx"
)

// A graph in the cache is a folder of two files: the graph as it is after all optimisations, and its weights in the order and the packing in
// which this processor reads them. Opening it maps the weights in place of computing them.
const (
	cachedGraph   = "graph.onnx"
	cachedWeights = "weights.data"
	cacheNew      = ".new" // the folder that is being written
	cacheLock     = ".lock"

	cacheAlignment = 64 // bytes

	cacheFormat = 2                   // counts up when the same graph would be written otherwise
	cacheUnused = 30 * 24 * time.Hour // after which a graph is removed
)

// caches tells whether Open goes through the cache: GPUs and OpenVINO have their own forms of weights.
func (o Options) caches() bool {
	return o.Cache != "" && (o.Device == "" || o.Device == CPU) && !o.BFloat16
}

// openCached opens the graph's folder in the cache, which it makes where it is missing or not whole.
func openCached(g *onnx.Graph, o Options) (*runtime.DynamicAdvancedSession, error) {
	key, err := cacheKey(g)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(o.Cache, key)
	if s, err := mapCached(g, o, folder); err == nil {
		return s, nil
	}
	unlock, err := lockCache(o.Cache)
	if err == nil {
		defer unlock()
		if s, err := mapCached(g, o, folder); err == nil { // made meanwhile
			return s, nil
		}
		err = writeCached(g, o, folder)
	}
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w (a graph takes up to 1.5 times its weights' size there; without --cache it is prepared at every start)", o.Cache, err)
	}
	return mapCached(g, o, folder)
}

// lockCache makes the cache's folder and waits until no other session writes to it, of this process or another.
func lockCache(cache string) (unlock func() error, err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(cache, cacheLock), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}

// cacheKey is another one for another graph, other weight files, another processor and another ONNX Runtime. A file is another one when
// its path, size or times are.
func cacheKey(g *onnx.Graph) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, cacheFormat, Version, cpuid.CPU.BrandName, cpuid.CPU.FeatureSet())
	for _, path := range g.Files {
		stat, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		inode := stat.Sys().(*syscall.Stat_t)
		fmt.Fprintf(h, "%q %d %v %v\n", path, inode.Size, inode.Mtim, inode.Ctim) // nobody sets the time of change
	}
	h.Write(g.Model)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// mapCached opens a folder of the cache as it is.
func mapCached(g *onnx.Graph, o Options, folder string) (*runtime.DynamicAdvancedSession, error) {
	path := filepath.Join(folder, cachedGraph)
	options, err := o.session("")
	if err != nil {
		return nil, err
	}
	defer options.Destroy()
	if err := options.SetGraphOptimizationLevel(runtime.GraphOptimizationLevelDisableAll); err != nil {
		return nil, err
	}
	s, err := runtime.NewDynamicAdvancedSession(path, names(g.Inputs), names(g.Outputs), options)
	if err == nil {
		os.Chtimes(folder, time.Time{}, time.Now()) // of its last use; a cache that is only read keeps them all
	}
	return s, err
}

// writeCached makes a folder of the cache, all at once, and removes those that nobody has used for long.
func writeCached(g *onnx.Graph, o Options, folder string) error {
	making := filepath.Join(o.Cache, cacheNew)
	if err := errors.Join(os.RemoveAll(folder), os.RemoveAll(making), clearCache(o.Cache)); err != nil {
		return err
	}
	if err := os.Mkdir(making, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(making)
	err := prepare(g, o, making, true)
	var aligned bool
	if err == nil {
		aligned, err = isAligned(filepath.Join(making, cachedGraph))
	}
	if err == nil && !aligned {
		err = errors.Join(os.RemoveAll(making), os.Mkdir(making, 0o755), prepare(g, o, making, false))
	}
	if err == nil {
		err = syncFiles(making)
	}
	if err != nil {
		return err
	}
	return os.Rename(making, folder)
}

// prepare has ONNX Runtime write the graph into a folder, with the weights of matrix products packed too or not.
func prepare(g *onnx.Graph, o Options, folder string, packed bool) error {
	options, err := o.session(g.Folder)
	if err != nil {
		return err
	}
	defer options.Destroy()
	packing := "0"
	if packed {
		packing = "1"
	}
	if err := errors.Join(
		options.SetOptimizedModelFilePath(filepath.Join(folder, cachedGraph)),
		options.AddSessionConfigEntry("session.optimized_model_external_initializers_file_name", cachedWeights),
		options.AddSessionConfigEntry("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
		options.AddSessionConfigEntry("session.save_external_prepacked_constant_initializers", packing),
	); err != nil {
		return err
	}
	s, err := runtime.NewDynamicAdvancedSessionWithONNXData(g.Model, names(g.Inputs), names(g.Outputs), options)
	if err != nil {
		return err
	}
	return s.Destroy()
}

// packedAt finds where the graph says that packed weights begin: "kernel+hash|offset;length;…", once for each part.
var packedAt = regexp.MustCompile(`\|(\d+);\d+;`)

// isAligned tells whether all packed weights lie as the processor's widest loads demand. ONNX Runtime aligns tensors over 1 MB and puts
// others where the one before ends, which an odd length there makes wrong, and runs then end the process.
func isAligned(graph string) (bool, error) {
	data, err := os.ReadFile(graph)
	if err != nil {
		return false, err
	}
	for _, found := range packedAt.FindAllSubmatch(data, -1) {
		at, err := strconv.ParseInt(string(found[1]), 10, 64)
		if err != nil || at%cacheAlignment != 0 {
			return false, nil
		}
	}
	return true, nil
}

// syncFiles has the files on disk before the folder gets its name.
func syncFiles(folder string) error {
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, file := range files {
		f, err := os.Open(filepath.Join(folder, file.Name()))
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clearCache removes the graphs that have not been used for long.
func clearCache(cache string) error {
	graphs, err := filepath.Glob(filepath.Join(cache, "*", cachedGraph))
	if err != nil {
		return err
	}
	for _, graph := range graphs {
		folder := filepath.Dir(graph)
		info, err := os.Stat(folder)
		if err == nil && time.Since(info.ModTime()) > cacheUnused {
			err = os.RemoveAll(folder)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

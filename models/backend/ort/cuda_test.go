package ort

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	runtime "github.com/yalue/onnxruntime_go"
)

// whole is a machine on which everything is in place; its loads are noted.
func whole(loaded *[]string) machine {
	return machine{
		folder: "/native/cuda", stat: func(string) bool { return true },
		load: func(path string) error { *loaded = append(*loaded, path); return nil },
		gpus: func() (int, int, error) { return 2, 13000, nil },
	}
}

func TestChoose(t *testing.T) {
	for asked, want := range map[string]string{"auto": "cuda:0", "cuda": "cuda:0", "cuda:1": "cuda:1", "cpu": "cpu", "": "cpu"} {
		var loaded []string
		got, library, err := choose(asked, whole(&loaded))
		if got != want || err != nil {
			t.Errorf("%q gives %q, %v", asked, got, err)
		}
		if gpu := want != CPU; (filepath.Dir(library) == "/native/cuda") != gpu || (len(loaded) > 0) != gpu {
			t.Errorf("%q takes the library %s and loads %v", asked, library, loaded)
		}
	}
	var loaded []string
	if _, _, err := choose("cuda", whole(&loaded)); err != nil {
		t.Fatal(err)
	}
	if loaded[0] != driver || loaded[len(loaded)-1] != "/native/cuda/libcudnn.so.9" || slices.Index(loaded, "/native/cuda/libcublasLt.so.13") > slices.Index(loaded, "/native/cuda/libcublas.so.13") {
		t.Errorf("loaded %v", loaded)
	}
	for _, asked := range []string{"gpu", "cuda:", "cuda:-1", "cuda:x", "rocm:0", "CUDA"} {
		_, _, err := choose(asked, whole(&loaded))
		var wrong *DeviceError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "cuda:INDEX") || !strings.Contains(err.Error(), asked) {
			t.Errorf("%q: %v", asked, err)
		}
	}
}

// What a GPU lacks is said in one line, with what would change it; auto goes on without it.
func TestDevicesThatCannotBeUsed(t *testing.T) {
	missing := func(name string) func(*machine) {
		return func(m *machine) { m.stat = func(path string) bool { return filepath.Base(path) != name } }
	}
	unloadable := func(name string) func(*machine) {
		return func(m *machine) {
			m.load = func(path string) error {
				if filepath.Base(path) == name {
					return errors.New(name + ": cannot open shared object file")
				}
				return nil
			}
		}
	}
	answers := func(count, version int, err error) func(*machine) {
		return func(m *machine) { m.gpus = func() (int, int, error) { return count, version, err } }
	}
	for name, c := range map[string]struct {
		spoil func(*machine)
		says  []string
	}{
		"no build":    {missing("libonnxruntime.so." + Version), []string{"/native/cuda/libonnxruntime.so", "scripts/setup cuda"}},
		"no provider": {missing(cudaProvider), []string{cudaProvider, "scripts/setup cuda"}},
		"no driver":   {unloadable(driver), []string{"no NVIDIA driver", "cannot open", "--gpus all"}},
		"old driver":  {answers(1, 12040, nil), []string{"CUDA 12.4", "13", "580"}},
		"no gpu":      {answers(0, 13000, nil), []string{"no GPU", "nvidia-smi"}},
		"hidden gpu":  {answers(0, 13000, errNoDevice), []string{"no GPU", "CUDA error 100"}},
		"mismatch":    {answers(0, 13000, errMismatch), []string{"different versions", "restart"}},
		"broken":      {answers(0, 13000, driverError(999)), []string{"does not start", "999"}},
		"no cudnn":    {missing("libcudnn.so.9"), []string{"/native/cuda/libcudnn.so.9", "scripts/setup cuda"}},
		"bad cublas":  {unloadable("libcublas.so.13"), []string{"libcublas.so.13", "cannot be loaded"}},
	} {
		var loaded []string
		m := whole(&loaded)
		c.spoil(&m)
		device, _, err := choose("cuda", m)
		var wrong *DeviceError
		if device != "" || !errors.As(err, &wrong) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q, %v", name, device, err)
			continue
		}
		for _, want := range append(c.says, "device cuda cannot be used") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
		device, library, err := choose("auto", m)
		if device != CPU || library != LibraryPath() || !errors.As(err, &wrong) {
			t.Errorf("%s: auto gives %q, %v", name, device, err)
		}
	}
	if _, _, err := choose("cuda:2", whole(new([]string))); err == nil || !strings.Contains(err.Error(), "2 GPUs") {
		t.Error(err)
	}
}

// The loader is the real one.
func TestLoad(t *testing.T) {
	if err := load("libm.so.6"); err != nil {
		t.Error(err)
	}
	if err := load("/nowhere/libx.so"); err == nil || !strings.Contains(err.Error(), "/nowhere/libx.so") {
		t.Error(err)
	}
}

// Both ways to a GPU are tried, the plugin only after the classic one, and what both say is in the error.
func TestProvidersInTurn(t *testing.T) {
	var tried []string
	way := func(name string, err error) provider {
		return func(_ *runtime.SessionOptions, index string) error {
			tried = append(tried, name+index)
			return err
		}
	}
	if err := firstOf(nil, "1", way("classic", nil), way("plugin", nil)); err != nil || !slices.Equal(tried, []string{"classic1"}) {
		t.Error(tried, err)
	}
	tried = nil
	if err := firstOf(nil, "1", way("classic", errors.New("not built in")), way("plugin", nil)); err != nil || !slices.Equal(tried, []string{"classic1", "plugin1"}) {
		t.Error(tried, err)
	}
	err := firstOf(nil, "1", way("classic", errors.New("not built in")), way("plugin", errors.New("no such file")))
	for _, want := range []string{"cuda:1", "not built in", "no such file", "--device cpu"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%v has several lines", err)
	}
}

// The library for the CPU knows no CUDA: asked for it, it refuses with the reason, in both ways.
func TestLibraryWithoutCUDA(t *testing.T) {
	if err := Init(LibraryPath()); err != nil {
		t.Fatal(err)
	}
	_, err := Options{Device: "cuda"}.session("")
	var wrong *DeviceError
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "scripts/setup cuda") {
		t.Error(err)
	}
	if err := plugin(nil, "0"); err == nil || !strings.Contains(err.Error(), cudaProvider) {
		t.Errorf("the plugin: %v", err)
	}
}

// The options name the GPU and are written as the provider reads them.
func TestCUDAOptions(t *testing.T) {
	o := cudaOptions("3")
	for key, want := range map[string]string{"device_id": "3", "prefer_nhwc": "1", "cudnn_conv_algo_search": "HEURISTIC", "cudnn_conv_use_max_workspace": "1",
		"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"} {
		if o[key] != want {
			t.Errorf("%s is %q, want %q", key, o[key], want)
		}
	}
}

// Handlers that a library replaces are put back: Go still hears of the signal.
func TestKeepSignals(t *testing.T) {
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGUSR1)
	defer signal.Stop(heard)
	failure := errors.New("no")
	err := keepSignals(func() error {
		ignore := [4]uintptr{1} // the kernel's struct sigaction with SIG_IGN, behind Go's back
		if _, _, code := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(syscall.SIGUSR1), uintptr(unsafe.Pointer(&ignore)), 0, 8, 0, 0); code != 0 {
			t.Fatal(code)
		}
		return failure
	})
	if err != failure {
		t.Error(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Error("the signal is not heard any more")
	}
}

package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	runtime "github.com/yalue/onnxruntime_go"
)

// Devices that Choose knows, besides "cuda:INDEX".
const (
	Auto = "auto"
	CPU  = "cpu"
	CUDA = "cuda"
)

// DeviceError says why a device cannot be used and what would change that.
type DeviceError struct {
	Device string
	Reason string
	Fix    string
	Err    error // the cause, or nil
}

func (e *DeviceError) Error() string {
	s := fmt.Sprintf("device %s cannot be used: %s", e.Device, e.Reason)
	if e.Err != nil {
		s += " (" + strings.Join(strings.Fields(e.Err.Error()), " ") + ")" // in one line
	}
	return s + ": " + e.Fix
}

func (e *DeviceError) Unwrap() error { return e.Err }

// Choose turns a device as it is asked for into the one that Options take, and says which library to give Init. Auto is a GPU where
// there is one that can be used, and otherwise the CPU, with the reason in why. A GPU that was asked for and cannot be used is a
// *DeviceError; so is an unknown device.
func Choose(device string) (chosen, library string, why error) {
	return choose(device, machine{folder: cudaFolder(), stat: exists, load: load, gpus: gpus})
}

func choose(device string, m machine) (chosen, library string, err error) {
	index, err := gpuIndex(device)
	if err != nil || index < 0 {
		return CPU, LibraryPath(), err
	}
	if err := m.usable(index); err != nil {
		err.Device = device
		if device == Auto {
			err.Device = CUDA
			return CPU, LibraryPath(), err
		}
		return "", "", err
	}
	return fmt.Sprintf("%s:%d", CUDA, index), m.library(), nil
}

// gpuIndex is the number of the GPU that a device names or allows, -1 for the CPU.
func gpuIndex(device string) (int, error) {
	kind, number, numbered := strings.Cut(device, ":")
	index := 0
	var err error
	if numbered {
		index, err = strconv.Atoi(number)
	}
	switch {
	case device == "" || device == CPU:
		return -1, nil
	case device == Auto, device == CUDA, kind == CUDA && err == nil && index >= 0:
		return index, nil
	}
	return 0, &DeviceError{Device: strconv.Quote(device), Reason: "there is no such device", Fix: "known are auto, cpu, cuda and cuda:INDEX"}
}

// cudaFolder is where scripts/setup cuda puts ONNX Runtime with its CUDA provider and NVIDIA's libraries.
func cudaFolder() string { return filepath.Dir(LibraryPath()) + "-cuda" }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Files of the CUDA build. The provider is loaded by ONNX Runtime from its own folder, the others before it, which does not say where they
// are; cuDNN it opens itself.
const cudaProvider = "libonnxruntime_providers_cuda.so"

var cudaLibraries = []string{"libcudart.so.13", "libnvrtc.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9"}

// cudaVersion is the oldest that the libraries run on, as the driver counts.
const cudaVersion = 13000

const fetchCUDA = "run scripts/setup cuda"

// machine is what is asked about a computer and its installation.
type machine struct {
	folder string // of the CUDA build
	stat   func(path string) bool
	load   func(library string) error
	gpus   func() (count, version int, err error)
}

func (m machine) library() string { return filepath.Join(m.folder, filepath.Base(LibraryPath())) }

// usable tells why networks cannot run on the GPU of that number, nil if they can.
func (m machine) usable(index int) *DeviceError {
	for _, path := range []string{m.library(), filepath.Join(m.folder, cudaProvider)} {
		if !m.stat(path) {
			return &DeviceError{Reason: path + " is missing", Fix: fetchCUDA}
		}
	}
	if err := m.load(driver); err != nil {
		return &DeviceError{Reason: "there is no NVIDIA driver", Err: err,
			Fix: "install one that knows CUDA 13 (580 or newer); in a container, start it with --gpus all"}
	}
	count, version, err := m.gpus()
	var answer driverError
	errors.As(err, &answer)
	switch {
	case version > 0 && version < cudaVersion:
		return &DeviceError{Reason: fmt.Sprintf("the NVIDIA driver knows CUDA %d.%d, and %d is needed", version/1000, version%1000/10, cudaVersion/1000),
			Err: err, Fix: "install driver 580 or newer"}
	case answer == errMismatch:
		return &DeviceError{Reason: "the NVIDIA driver's library and kernel module are of different versions", Err: err, Fix: "restart the computer"}
	case answer == errNoDevice || err == nil && count == 0:
		return &DeviceError{Reason: "the NVIDIA driver finds no GPU", Err: err, Fix: "nvidia-smi lists what it sees; in a container, start it with --gpus all"}
	case err != nil:
		return &DeviceError{Reason: "the NVIDIA driver does not start", Err: err, Fix: "nvidia-smi may say more"}
	case index >= count:
		return &DeviceError{Reason: fmt.Sprintf("there are %d GPUs, counted from 0", count), Fix: "choose another"}
	}
	for _, name := range cudaLibraries {
		path := filepath.Join(m.folder, name)
		if !m.stat(path) {
			return &DeviceError{Reason: path + " is missing", Fix: "remove " + m.folder + " and " + fetchCUDA}
		}
		if err := m.load(path); err != nil {
			return &DeviceError{Reason: name + " cannot be loaded", Err: err, Fix: "remove " + m.folder + " and " + fetchCUDA}
		}
	}
	return nil
}

// cudaOptions are the provider's options (https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html).
func cudaOptions(index string) map[string]string {
	return map[string]string{
		"device_id": index,
		// Every size of picture and batch is another shape, and an exhaustive search would run anew for each of them.
		"cudnn_conv_algo_search":       "HEURISTIC",
		"cudnn_conv_use_max_workspace": "1", // half-precision convolutions need it to be fast
		"arena_extend_strategy":        "kSameAsRequested",
		"prefer_nhwc":                  "1",
		"use_tf32":                     "0", // float32 is float32; half precision is what is fast
		"do_copy_in_default_stream":    "1",
	}
}

// provider appends one that runs on CUDA to the options of a session.
type provider func(s *runtime.SessionOptions, index string) error

// appendCUDA adds the GPU, by the call that ONNX Runtime has had for long, or else as a plugin.
func appendCUDA(s *runtime.SessionOptions, index string) error {
	return firstOf(s, index, classic, plugin)
}

func firstOf(s *runtime.SessionOptions, index string, ways ...provider) error {
	var errs []error
	for _, way := range ways {
		err := keepSignals(func() error { return way(s, index) })
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return &DeviceError{Device: CUDA + ":" + index, Reason: "ONNX Runtime refuses it", Err: errors.Join(errs...),
		Fix: "the library and the driver must fit each other: " + fetchCUDA + ", or --device cpu"}
}

func classic(s *runtime.SessionOptions, index string) error {
	cuda, err := runtime.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer cuda.Destroy()
	if err := cuda.Update(cudaOptions(index)); err != nil {
		return err
	}
	return s.AppendExecutionProviderCUDA(cuda)
}

// registered holds the result of registering the plugin, which is done once in a process.
var registered = sync.OnceValue(func() error {
	return runtime.RegisterExecutionProviderLibrary("likeness_cuda", filepath.Join(filepath.Dir(library.path), cudaProvider))
})

func plugin(s *runtime.SessionOptions, index string) error {
	if err := registered(); err != nil {
		return err
	}
	devices, err := runtime.GetEpDevices()
	if err != nil {
		return err
	}
	var own []runtime.EpDevice
	for _, d := range devices {
		if strings.Contains(strings.ToUpper(d.EpName()), "CUDA") {
			own = append(own, d)
		}
	}
	at, err := strconv.Atoi(index)
	if err != nil || at >= len(own) {
		return fmt.Errorf("the CUDA plugin offers %d devices", len(own))
	}
	options := cudaOptions(index)
	delete(options, "device_id") // the device says it
	return s.AppendExecutionProviderV2(own[at:at+1], options)
}

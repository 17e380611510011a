package ort

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/klauspost/cpuid/v2"
	runtime "github.com/yalue/onnxruntime_go"
)

// OpenVINOVersion is that of OpenVINO's plugin for ONNX Runtime, as scripts/setup openvino installs it.
const OpenVINOVersion = "1.8.1"

const (
	openvinoLibrary  = "libonnxruntime_providers_openvino_plugin.so"
	openvinoProvider = "OpenVINOExecutionProvider"
	fetchOpenVINO    = "run scripts/setup openvino"
)

// openvinoPath is where scripts/setup openvino puts the plugin, with OpenVINO beside it.
func openvinoPath() string {
	return filepath.Join(filepath.Dir(filepath.Dir(LibraryPath())), "onnxruntime-openvino-"+OpenVINOVersion, openvinoLibrary)
}

// CanBFloat16 is nil where the CPU can compute in bfloat16 (Options.BFloat16), and otherwise a *DeviceError that says why not.
func CanBFloat16() error {
	return canBFloat16(cpuid.CPU.VendorID == cpuid.Intel, cpuid.CPU.Supports(cpuid.AMXBF16) || cpuid.CPU.Supports(cpuid.AVX512BF16), exists)
}

func canBFloat16(intel, instructions bool, stat func(path string) bool) error {
	const device, fix = CPU + " in bfloat16", "leave --dtype at float32"
	if !instructions {
		return &DeviceError{Device: device, Reason: "the processor has no instructions for it (amx_bf16 or avx512_bf16)", Fix: fix}
	}
	if !intel {
		return &DeviceError{Device: device, Reason: "OpenVINO's plugin takes processors of Intel alone", Fix: fix}
	}
	if path := openvinoPath(); !stat(path) {
		return &DeviceError{Device: device, Reason: path + " is missing", Fix: fetchOpenVINO}
	}
	return nil
}

// openvino registers the plugin, once in a process, and gives its device.
var openvino = sync.OnceValues(func() (devices []runtime.EpDevice, err error) {
	err = keepSignals(func() error { return runtime.RegisterExecutionProviderLibrary("likeness_openvino", openvinoPath()) })
	if err != nil {
		return nil, err
	}
	all, err := runtime.GetEpDevices()
	for _, d := range all {
		if d.EpName() == openvinoProvider {
			return []runtime.EpDevice{d}, nil
		}
	}
	return nil, errors.Join(err, errors.New("the plugin offers no CPU"))
})

// appendOpenVINO has a session's graph computed by OpenVINO on the CPU, in bfloat16 where it finds that enough. It compiles the graph anew
// from float32, and reads the weights from where the graph says that they are.
func appendOpenVINO(s *runtime.SessionOptions, threads int) error {
	devices, err := openvino()
	if err == nil {
		var config []byte
		if config, err = json.Marshal(openvinoConfig(threads)); err == nil {
			err = s.AppendExecutionProviderV2(devices, map[string]string{"load_config": string(config)})
		}
	}
	if err != nil {
		return &DeviceError{Device: CPU + " in bfloat16", Reason: "ONNX Runtime refuses OpenVINO", Err: err,
			Fix: fmt.Sprintf("remove %s and %s, or leave --dtype at float32", filepath.Dir(openvinoPath()), fetchOpenVINO)}
	}
	return nil
}

// openvinoConfig are the properties of OpenVINO's CPU device (https://docs.openvino.ai, "CPU Device").
func openvinoConfig(threads int) map[string]map[string]string {
	properties := map[string]string{
		"INFERENCE_PRECISION_HINT": "bf16",
		"NUM_STREAMS":              "1",  // all threads on one run
		"ENABLE_CPU_PINNING":       "NO", // sessions beside each other share the cores
	}
	if threads > 0 {
		properties["INFERENCE_NUM_THREADS"] = strconv.Itoa(threads)
	}
	return map[string]map[string]string{"CPU": properties}
}

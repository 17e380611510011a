package ort

import (
	"errors"
	"strconv"

	runtime "github.com/yalue/onnxruntime_go"
)

// Options configures a session.
type Options struct {
	Threads int    // of one run; 0: as many as there are cores
	Device  string // as Choose gives it; empty is the CPU
	// Trim gives back, before a run, what earlier runs of all sessions have left: for networks that take much and run seldom.
	Trim bool
	// BFloat16 has the CPU compute a float32 graph in bfloat16, for which CanBFloat16 must be nil. A run then stops at its end alone.
	BFloat16 bool
}

// session turns the options into ONNX Runtime's. folder is where external weights lie, if there are any.
func (o Options) session(folder string) (*runtime.SessionOptions, error) {
	s, err := runtime.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	errs := []error{
		s.SetGraphOptimizationLevel(runtime.GraphOptimizationLevelEnableAll),
		s.SetIntraOpNumThreads(max(o.Threads, 0)),
		s.SetInterOpNumThreads(1),
		// ONNX Runtime would keep what a run took, and plan it as one block for every size of picture: measured, no faster, and a decoded picture of
		// 512×512 leaves 1 GB behind.
		s.SetMemPattern(false),
		s.SetCpuMemArena(false),
		// The idle threads of one session would otherwise spin against the next one's run: measured, 1.2 to 1.4 times its time.
		s.AddSessionConfigEntry("session.force_spinning_stop", "1"),
	}
	if folder != "" {
		errs = append(errs, s.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder))
	}
	errs = append(errs, o.device(s))
	if err := errors.Join(errs...); err != nil {
		s.Destroy()
		return nil, err
	}
	return s, nil
}

func (o Options) device(s *runtime.SessionOptions) error {
	index, err := gpuIndex(o.Device)
	switch {
	case err != nil:
		return err
	case index >= 0 && o.Device != Auto:
		return appendCUDA(s, strconv.Itoa(index))
	case o.BFloat16:
		return appendOpenVINO(s, o.Threads)
	}
	return addKernels(s)
}

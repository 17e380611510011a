package ort

import (
	"errors"
	"fmt"
	"strings"

	runtime "github.com/yalue/onnxruntime_go"
)

// Options configures a session.
type Options struct {
	Threads int    // of one run; 0: as many as there are cores
	Device  string // "cpu", "cuda" or "cuda:INDEX"; empty is "cpu"
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
	kind, index, _ := strings.Cut(o.Device, ":")
	switch {
	case o.Device == "" || o.Device == "cpu":
		return nil
	case kind != "cuda":
		return fmt.Errorf("device %q: known are cpu, cuda and cuda:INDEX", o.Device)
	case index == "":
		index = "0"
	}
	cuda, err := runtime.NewCUDAProviderOptions()
	if err == nil {
		defer cuda.Destroy()
		err = cuda.Update(map[string]string{"device_id": index})
	}
	if err == nil {
		err = s.AppendExecutionProviderCUDA(cuda)
	}
	if err != nil {
		return fmt.Errorf("device %q: this ONNX Runtime library cannot use it: %w", o.Device, err)
	}
	return nil
}

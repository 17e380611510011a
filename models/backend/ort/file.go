package ort

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	runtime "github.com/yalue/onnxruntime_go"

	"likeness/models/backend/onnx"
	"likeness/models/op"
)

// OpenFile makes a session of a .onnx file that somebody else made. Init must have loaded the library. The caller closes
// the Session.
func OpenFile(path string, o Options) (*Session, error) {
	inputs, outputs, err := runtime.GetInputOutputInfo(path)
	if err != nil {
		return nil, fmt.Errorf("model file %s: %w", path, err)
	}
	s := &Session{name: filepath.Base(path)}
	if s.inputs, err = ports(inputs); err == nil {
		s.outputs, err = ports(outputs)
	}
	if err != nil {
		return nil, fmt.Errorf("model file %s: %w", path, err)
	}
	options, err := o.session("")
	if err != nil {
		return nil, fmt.Errorf("model file %s: %w", path, err)
	}
	defer options.Destroy()
	if s.session, err = runtime.NewDynamicAdvancedSession(path, names(s.inputs), names(s.outputs), options); err != nil {
		return nil, fmt.Errorf("model file %s: %w", path, err)
	}
	return s, nil
}

// ports describes a file's inputs or outputs, sorted by name.
func ports(infos []runtime.InputOutputInfo) ([]onnx.Port, error) {
	var list []onnx.Port
	for _, info := range infos {
		p := onnx.Port{Name: info.Name, DType: op.Float32}
		switch info.DataType {
		case runtime.TensorElementDataTypeFloat:
		case runtime.TensorElementDataTypeInt64:
			p.DType = op.Int64
		default:
			return nil, fmt.Errorf("%s is %v: only float and int64 are supported", info.Name, info.DataType)
		}
		for _, d := range info.Dimensions {
			p.Dims = append(p.Dims, int(max(d, -1)))
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b onnx.Port) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

package main

import (
	"fmt"

	"likeness/models/backend/onnx"
	"likeness/models/backend/ort"
	"likeness/models/checkpoint"
	"likeness/models/op"
	"likeness/server/config"
)

// placement is where networks run, and in which precision.
type placement struct {
	ort.Options
	compute onnx.Precision
	library string // of ONNX Runtime
	why     error  // no GPU, where one was welcome
}

// place reads the settings and looks at the machine.
func place(cfg config.Model) (placement, error) {
	device, library, err := ort.Choose(cfg.Device)
	if device == "" || err != nil && cfg.Device != ort.Auto {
		return placement{}, err
	}
	p := placement{Options: ort.Options{Threads: cfg.Threads, Device: device}, library: library, why: err}
	p.compute, err = precision(cfg.DType, device == ort.CPU)
	return p, err
}

// precision reads --dtype.
func precision(dtype string, cpu bool) (onnx.Precision, error) {
	switch {
	case (dtype == "" || dtype == "auto") && !cpu:
		return onnx.Float16, nil
	case dtype == "" || dtype == "auto":
		return onnx.Float32, nil
	}
	for _, p := range []onnx.Precision{onnx.Float32, onnx.Float16, onnx.BFloat16} {
		switch {
		case p.String() != dtype:
		case cpu && p == onnx.Float16:
			return 0, fmt.Errorf("--dtype %s: on the CPU ONNX Runtime computes in float32, and casting to it and back at every operation makes a "+
				"step take 1.7 times as long (measured): leave it at float32, or try bfloat16; --memory low takes less memory", dtype)
		case cpu && p == onnx.BFloat16:
			if err := ort.CanBFloat16(); err != nil {
				return 0, fmt.Errorf("--dtype %s: %w", dtype, err)
			}
			return p, nil
		default:
			return p, nil
		}
	}
	return 0, fmt.Errorf("--dtype %q: known are auto, float32, float16 and bfloat16", dtype)
}

// of is the precision of a component. The denoiser and the text encoders take half: the VAE's activations do not fit into float16 in
// every model, and encoders of photos are small. On the CPU the VAE takes bfloat16, whose range is float32's.
func (p placement) of(component string) onnx.Precision {
	switch component {
	case checkpoint.UNet, checkpoint.TextEncoder, checkpoint.TextEncoder2:
		return p.compute
	case checkpoint.VAE:
		if p.Device == ort.CPU && p.compute == onnx.BFloat16 {
			return p.compute
		}
	}
	return onnx.Float32
}

// compiled tells whether a component is a float32 graph that is computed in bfloat16 all the same, as the CPU does.
func (p placement) compiled(component string) bool {
	return p.Device == ort.CPU && p.of(component) == onnx.BFloat16
}

// open makes a component's network run.
func (p placement) open(name string, model op.Model, weights *checkpoint.Component) (*ort.Session, error) {
	graph, err := p.emit(name, model, weights)
	if err != nil {
		return nil, err
	}
	options := p.Options
	options.BFloat16 = p.compiled(name)
	options.Trim = name == checkpoint.VAE // whose decoded pictures take the most
	return ort.Open(graph, options)
}

// emit makes the graph of a component's network.
func (p placement) emit(name string, model op.Model, weights *checkpoint.Component) (*onnx.Graph, error) {
	o := onnx.Options{Name: name, Compute: p.of(name), OwnOps: p.Device == ort.CPU && !p.compiled(name)}
	if p.compiled(name) {
		o.Compute = onnx.Float32
	}
	graph, err := onnx.Emit(model, onnx.FromFiles(weights.Info), o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", weights.Path(), err)
	}
	return graph, nil
}

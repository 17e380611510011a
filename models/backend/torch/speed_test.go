//go:build torch

package torch

import (
	"syscall"
	"testing"

	"likeness/models/backend/trace"
	"likeness/models/nn"
	"likeness/models/op"
	"likeness/models/op/optest"
)

// A training step of four residual blocks of 96 channels on 16×16 places, batch 64: what most of a denoiser's time goes to.
func BenchmarkStep(b *testing.B) {
	const channels, side, batch, blocks = 96, 16, 64, 4
	model := func(s op.Scope) map[string]op.Tensor {
		x := nn.Conv2D(s.At("conv_in"), s.Input("x", op.Float32, -1, 12, side, side), 12, channels, 3, 1, 1)
		temb := s.Input("temb", op.Float32, -1, channels)
		for i := range blocks {
			x = nn.Resnet{In: channels, Out: channels, Groups: 16, Eps: 1e-5, TimeWidth: channels}.Forward(s.Index("resnets", i), x, temb)
		}
		return map[string]op.Tensor{"loss": x.Mul(x).Mean(0, 1, 2, 3)}
	}
	list, err := trace.Weights(model)
	if err != nil {
		b.Fatal(err)
	}
	weights := map[string]op.Array{}
	for _, w := range list {
		weights[w.Name] = scaled(optest.Normal(w.Name, w.Dims...), 0.05)
	}
	inputs := map[string]op.Array{"x": optest.Normal("x", batch, 12, side, side), "temb": optest.Normal("temb", batch, channels)}
	for name, compute := range map[string]Precision{"float32": Float32, "bfloat16": BFloat16} {
		b.Run(name, func(b *testing.B) {
			e, err := New(Config{Threads: 1, Compute: compute})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(e.Close)
			p := params(b, e, weights, true)
			step := func() {
				if _, err := e.Backward(model, inputs, p); err != nil {
					b.Fatal(err)
				}
			}
			step() // the first has libtorch choose its kernels
			before := processorSeconds(b)
			for b.Loop() {
				step()
			}
			b.ReportMetric(1000*(processorSeconds(b)-before)/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorSeconds is the time that the process has computed, which other programs do not disturb.
func processorSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

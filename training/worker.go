//go:build torch

package main

import (
	"context"
	"os"
	"runtime"
	"syscall"

	"likeness/models/backend/torch"
	"likeness/training/tune"
	"likeness/training/worker"
)

type workerCommand struct {
	Model   string `help:"Model folder." default:"models/demo"`
	Threads int    `help:"CPU threads; 0: as many as there are cores." default:"0"`
}

// Help is shown by kong.
func (workerCommand) Help() string {
	return `A server starts it and speaks with it in lines of JSON on standard input and output, as package training/protocol says. It ends when its
standard input does.`
}

// Run is called by kong.
func (c *workerCommand) Run(ctx context.Context) error {
	// Whatever a library prints must not stand between the messages.
	descriptor, err := syscall.Dup(int(os.Stdout.Fd()))
	if err != nil {
		return err
	}
	if err := syscall.Dup3(int(os.Stderr.Fd()), int(os.Stdout.Fd()), 0); err != nil {
		return err
	}
	syscall.CloseOnExec(descriptor)
	messages := os.NewFile(uintptr(descriptor), "messages")
	defer messages.Close()
	if c.Threads == 0 {
		c.Threads = runtime.NumCPU()
	}
	device := device{Threads: c.Threads, Precision: "fastest"}
	var engine *torch.Engine
	defer func() {
		if engine != nil {
			engine.Close()
		}
	}()
	w := &worker.Worker{Open: func() (base *tune.Base, intake tune.Intake, err error) {
		if engine == nil {
			if engine, err = device.engine(); err != nil {
				return nil, nil, err
			}
		}
		if base, err = tune.Open(engine, c.Model); err != nil {
			return nil, nil, err
		}
		command := tuneCommand{Crop: "face", device: device}
		if intake, _, err = command.intake(); err != nil { // the detector stays open until the process ends
			base.Close()
			return nil, nil, err
		}
		return base, intake, nil
	}, Ended: func() { os.Exit(0) }} // for nobody would read what it goes on to learn
	return w.Serve(ctx, os.Stdin, messages)
}

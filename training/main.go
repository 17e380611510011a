//go:build torch

// Command training makes and measures models: portraits, base, encoder, tune, worker, evaluate.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

var commands struct {
	Portraits  portraitsCommand  `cmd:"" help:"Draw a sheet of the training pictures: a row for each identity, a column for each context."`
	Base       baseCommand       `cmd:"" help:"Train a small base model from nothing: VAE, then text encoder and UNet."`
	Encoder    encoderCommand    `cmd:"" help:"Train the encoder on a frozen base model."`
	Tune       tuneCommand       `cmd:"" help:"Learn one person or thing from a few photos, as a concept file that the server draws with."`
	Covariance covarianceCommand `cmd:"" help:"Measure how a model's text states vary, which the method perfusion needs."`
	Worker     workerCommand     `cmd:"" help:"Tune concepts for a server, which starts it."`
	Evaluate   evaluateCommand   `cmd:"" help:"Measure identity, editability, time and size of a model's methods on test persons."`
}

func main() {
	settle()
	// The first signal ends a training at the next step and saves it, the second ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	k := kong.Parse(&commands, kong.Name("training"), kong.ShortUsageOnError(),
		kong.Description("Makes and measures the models that Likeness serves. Runs are folders: start the same command again to resume one."))
	k.BindTo(ctx, (*context.Context)(nil))
	switch err := k.Run(); {
	case err != nil && errors.Is(err, ctx.Err()):
		fmt.Fprintln(os.Stderr, "training: interrupted")
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "training:", err)
		os.Exit(1)
	}
}

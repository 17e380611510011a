// Command server serves Likeness, and does without a server what the server does: encode photos, generate pictures.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"likeness/server/config"
)

const description = `Personalizes a text-to-image model from one photo, in one forward pass.

  server                                       serve the page and the API on 127.0.0.1:8080
  server encode photo.jpg -o me.safetensors    turn a photo into a concept
  server generate --concept me.safetensors --prompt "an illustration of <me> wearing a crown"

Every flag has an environment twin: --addr is LIKENESS_ADDR.`

// cli is the command line.
type cli struct {
	Serve    serveCommand    `cmd:"" default:"withargs" help:"Serve the page and the API (default)."`
	Encode   encodeCommand   `cmd:"" help:"Turn 1 to 4 photos of one person into a concept file."`
	Generate generateCommand `cmd:"" help:"Make pictures from a prompt and concept files."`
	Export   exportCommand   `cmd:"" help:"Write a concept as LoRA, textual-inversion embedding or merged weights."`
	Inspect  inspectCommand  `cmd:"" help:"Say what a model, checkpoint, concept, LoRA, embedding or IP-Adapter is, what it lacks and what it needs."`
}

func main() {
	var c cli
	parser := kong.Must(&c, kong.Name("server"), kong.Description(description), kong.DefaultEnvars(config.EnvPrefix),
		kong.ShortUsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
	parser.FatalIfErrorf(config.CheckEnv(parser.Model, os.Environ()))
	parsed, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run()
	stop()
	if err != nil { // without the usage: the command line was understood
		parser.Errorf("%s", err)
		os.Exit(1)
	}
}

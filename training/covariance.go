//go:build torch

package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"likeness/models/backend/torch"
	"likeness/training/portraits"
	"likeness/training/tune"
)

type covarianceCommand struct {
	Model   string `help:"Model folder, into which covariance.safetensors is written." default:"models/demo" type:"existingdir"`
	Prompts string `help:"A text file with a prompt on each line, of all that the model may be asked for (default: made-up captions of portraits, which suit the demo model)." placeholder:"FILE" type:"existingfile"`
	Count   int    `help:"How many captions of portraits are made up, where there is no file." default:"20000"`
	Threads int    `help:"CPU threads." default:"2"`
}

// Help is shown by kong.
func (covarianceCommand) Help() string {
	return `Perfusion needs it, once for a model: it says how the model's text states vary, so that a concept's edit leaves other words alone. A hundred
thousand captions of pictures of all kinds are best.

  training covariance --model DIR --prompts captions.txt
  training tune --method perfusion --model DIR --photos ann/ --word ann -o ann.safetensors`
}

// Run is called by kong.
func (c *covarianceCommand) Run(ctx context.Context) error {
	prompts, err := c.prompts()
	if err != nil {
		return err
	}
	engine, err := torch.New(torch.Config{Threads: c.Threads})
	if err != nil {
		return err
	}
	defer engine.Close()
	base, err := tune.Open(engine, c.Model)
	if err != nil {
		return err
	}
	defer base.Close()
	if err := base.Covariance(ctx, prompts, nil); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: of %d prompts\n", filepath.Join(c.Model, tune.CovarianceFile), len(prompts))
	return nil
}

// prompts reads the file, or makes captions up.
func (c *covarianceCommand) prompts() ([]string, error) {
	var all []string
	if c.Prompts == "" {
		r := rand.New(rand.NewPCG(1, 0))
		for i := range c.Count {
			all = append(all, portraits.Caption(portraits.Train.Identity(i), portraits.NewContext(r), r))
		}
	} else {
		f, err := os.Open(c.Prompts)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" {
				all = append(all, line)
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Prompts, err)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no prompts: give --prompts a file with one on each line, or --count a positive number")
	}
	return all, nil
}

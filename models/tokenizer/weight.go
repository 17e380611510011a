package tokenizer

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Part is a stretch of a prompt and how strongly it counts.
type Part struct {
	Text   string
	Weight float64 // 1: as it is
}

const (
	bracket   = 1.1 // what a pair of round brackets multiplies by, and a square one divides by
	maxWeight = 10
)

// WeightError reports a weight out of bounds.
type WeightError struct {
	Text   string
	Weight float64
}

func (e *WeightError) Error() string {
	return fmt.Sprintf("%.40q has the weight %g: weights go up to %d", e.Text, e.Weight, maxWeight)
}

var explicitWeight = regexp.MustCompile(`^:\s*([+-]?[.\d]+)\s*\)`)

// ParseWeights reads the weights written into a prompt, in the language of AUTOMATIC1111's web UI (parse_prompt_attention of its
// modules/prompt_parser.py): (text) weighs 1.1 and [text] 1/1.1 times as much, (text:1.5) 1.5 times; brackets nest, one that is not
// closed reaches to the end, and \( \) \[ \] \\ are the characters themselves. Other than there, a lone backslash stands for itself.
// Neighbours of one weight are one Part, so a prompt without brackets comes back whole. It fails with a *WeightError or *ErrTooLong.
func ParseWeights(prompt string) ([]Part, error) {
	if len(prompt) > maxPromptBytes {
		return nil, &ErrTooLong{Limit: maxPromptBytes}
	}
	var p weightParser
	for at := 0; at < len(prompt); {
		at += p.read(prompt[at:])
	}
	for _, from := range p.round {
		p.multiply(from, bracket)
	}
	for _, from := range p.square {
		p.multiply(from, 1/bracket)
	}
	return p.merged()
}

// weightParser holds what is read so far, and the parts at which the open brackets begin.
type weightParser struct {
	parts         []Part
	round, square []int
}

// read takes one piece off the front of text, which is not empty, and returns its length.
func (p *weightParser) read(text string) int {
	if len(text) > 1 && text[0] == '\\' && strings.IndexByte(`()[]\`, text[1]) >= 0 {
		p.parts = append(p.parts, Part{text[1:2], 1})
		return 2
	}
	weight := explicitWeight.FindStringSubmatch(text)
	switch {
	case text[0] == '(':
		p.round = append(p.round, len(p.parts))
	case text[0] == '[':
		p.square = append(p.square, len(p.parts))
	case weight != nil && len(p.round) > 0:
		if factor, err := strconv.ParseFloat(weight[1], 64); err == nil {
			p.close(&p.round, factor)
			return len(weight[0])
		}
		p.parts = append(p.parts, Part{text[:1], 1}) // such as :1.2.3
	case text[0] == ')' && len(p.round) > 0:
		p.close(&p.round, bracket)
	case text[0] == ']' && len(p.square) > 0:
		p.close(&p.square, 1/bracket)
	default:
		end := 1 + strings.IndexAny(text[1:], `\()[]:`)
		if end == 0 {
			end = len(text)
		}
		p.parts = append(p.parts, Part{text[:end], 1})
		return end
	}
	return 1
}

// close ends the bracket opened last.
func (p *weightParser) close(open *[]int, factor float64) {
	last := len(*open) - 1
	p.multiply((*open)[last], factor)
	*open = (*open)[:last]
}

func (p *weightParser) multiply(from int, factor float64) {
	for i := from; i < len(p.parts); i++ {
		p.parts[i].Weight *= factor
	}
}

func (p *weightParser) merged() ([]Part, error) {
	var parts []Part
	for _, part := range p.parts {
		if !(math.Abs(part.Weight) <= maxWeight) {
			return nil, &WeightError{part.Text, part.Weight}
		}
		if last := len(parts) - 1; last >= 0 && parts[last].Weight == part.Weight {
			parts[last].Text += part.Text
			continue
		}
		parts = append(parts, part)
	}
	return parts, nil
}

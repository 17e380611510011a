package concept

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Use is a concept that a prompt names.
type Use struct {
	Word  string
	Scale float64 // strength, in [-2, 2]; 1 if the prompt gives none
}

// MaxScale bounds the strength of a use, either way.
const MaxScale = 2

// ScaleError reports a use whose scale is no number in [-2, 2], or that contradicts an earlier one.
type ScaleError struct {
	Word  string
	Scale string // as written
	Other string // the earlier scale it contradicts, if that is what is wrong
}

func (e *ScaleError) Error() string {
	if e.Other != "" {
		return fmt.Sprintf("<%s:%s>: the prompt already gives it the scale %s; one concept has one scale", e.Word, e.Scale, e.Other)
	}
	return fmt.Sprintf("<%s:%.40s>: scale is not a number from -%d to %d", e.Word, e.Scale, MaxScale, MaxScale)
}

var useSyntax = regexp.MustCompile(`<([A-Za-z0-9_-]{1,32})(?::([^<>]*))?>`)

// ParsePrompt finds the concepts a prompt names, as <word> or <word:scale>. In the returned text each stands as <word>,
// in lower case; anything else with a "<" is literal. Uses are in order of first mention, one a word: a later mention
// without a scale takes the earlier one's. A bad scale is a *ScaleError.
func ParsePrompt(prompt string) (text string, uses []Use, err error) {
	var b strings.Builder
	index := map[string]int{}
	written := map[string]string{}
	end := 0
	for _, m := range useSyntax.FindAllStringSubmatchIndex(prompt, -1) {
		word := strings.ToLower(prompt[m[2]:m[3]])
		b.WriteString(prompt[end:m[0]])
		b.WriteString("<" + word + ">")
		end = m[1]
		i, known := index[word]
		if !known {
			i = len(uses)
			index[word] = i
			uses = append(uses, Use{Word: word, Scale: 1})
		}
		if m[4] < 0 {
			continue
		}
		scale := strings.TrimSpace(prompt[m[4]:m[5]])
		v, err := strconv.ParseFloat(scale, 64)
		if err != nil || !(v >= -MaxScale && v <= MaxScale) {
			return "", nil, &ScaleError{Word: word, Scale: scale}
		}
		if other, twice := written[word]; twice && uses[i].Scale != v {
			return "", nil, &ScaleError{Word: word, Scale: scale, Other: other}
		}
		written[word], uses[i].Scale = scale, v
	}
	b.WriteString(prompt[end:])
	return b.String(), uses, nil
}

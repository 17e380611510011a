package portraits

import (
	"math/rand/v2"
	"strings"
)

// The words of the traits that a caption can name.
var (
	skinWords = []string{"pale skin", "fair skin", "tan skin", "brown skin", "dark skin"}
	hairWords = []string{"black", "brown", "blond", "red", "grey", "white", "blue", "pink"}
	hairForms = []string{"a bald head", "very short * hair", "short * hair", "spiky * hair", "curly * hair", "a * afro", "long * hair",
		"wavy * hair", "a * bob", "a * bun", "a * ponytail", "* pigtails", "a * mohawk", "* braids"}
	beardWords = []string{"", "stubble", "a moustache", "a goatee", "a beard", "a long beard"}
	eyeWords   = []string{"brown eyes", "blue eyes", "green eyes", "grey eyes"}
)

// The words of a context.
var (
	styleWords    = []string{"an illustration of", "a pencil sketch of", "pixel art of"}
	headwearWords = []string{"", "a crown", "a cap", "a beanie", "a wizard hat", "a cowboy hat", "headphones", "flowers"}
	placeWords    = []string{"at the beach", "in a forest", "in space", "in the city at night", "in the snow", "at sunset", "in the mountains",
		"in the desert", "underwater", "under a rainbow"}
)

// longest is how many tokens a caption may have: the text encoder of the demo reads two more, and a subject may take several.
const longest = 29

// costs are the words that take more than one token of the demo's vocabulary.
var costs = map[string]int{
	"background": 2, "forest": 2, "underwater": 2, "desert": 3, "mountains": 3, "rainbow": 3,
	"illustration": 2, "pencil": 2, "sketch": 3, "pixel": 3, "portrait": 3,
	"sad": 2, "smiling": 2, "surprised": 2, "winking": 2, "angry": 3, "laughing": 3,
	"cap": 2, "crown": 2, "flowers": 2, "glasses": 2, "hat": 2, "beanie": 3, "cowboy": 3, "headphones": 3, "sunglasses": 3, "wizard": 3,
	"grey": 2, "purple": 2, "yellow": 2, "blond": 2, "pale": 2, "tan": 2, "skin": 2, "freckles": 3, "earrings": 3,
	"afro": 2, "bald": 2, "bob": 2, "bun": 2, "curly": 2, "spiky": 2, "wavy": 3, "braids": 3, "mohawk": 3, "pigtails": 4, "ponytail": 5,
	"beard": 2, "goatee": 3, "stubble": 3, "moustache": 4,
}

// tokens is the length of a caption in tokens of the demo's vocabulary.
func tokens(caption string) int {
	n := strings.Count(caption, ",")
	for _, word := range strings.Fields(strings.ReplaceAll(caption, ",", "")) {
		n += max(costs[word], 1)
	}
	return n
}

// traits are the identity's traits in words, the boldest first.
func (id Identity) traits() []string {
	t := []string{strings.Replace(hairForms[id.HairStyle], "*", hairWords[id.HairColor], 1)}
	if id.Beard != Shaven {
		t = append(t, beardWords[id.Beard])
	}
	t = append(t, skinWords[id.Skin], eyeWords[id.EyeColor])
	if id.Freckles {
		t = append(t, "freckles")
	}
	if id.Earrings {
		t = append(t, "earrings")
	}
	return t
}

// worn is what c has on the face, in words.
func (c Context) worn() []string {
	var w []string
	if c.Headwear != NoHeadwear {
		w = append(w, headwearWords[c.Headwear])
	}
	if c.Glasses != NoGlasses {
		w = append(w, c.Glasses.String())
	}
	return w
}

// place is the scene in words.
func (s Scene) place() string {
	if s < Beach {
		return "on a " + s.String() + " background"
	}
	return placeWords[s-Beach]
}

// phrase is a caption in parts; empty parts are left out.
type phrase struct {
	style, subject string
	traits         []string
	expression     string
	rest           [3]string // what is worn, the clothes, the place
	commas         bool      // between the parts
}

func (c Context) phrase(subject string) phrase {
	p := phrase{style: styleWords[c.Style], subject: subject, commas: true}
	if c.Expression != Neutral {
		p.expression = c.Expression.String()
	}
	if w := c.worn(); len(w) > 0 {
		p.rest[0] = "wearing " + list(w)
	}
	p.rest[1], p.rest[2] = "in a "+c.Clothes.String()+" shirt", c.Scene.place()
	return p
}

func (p phrase) String() string {
	var b strings.Builder
	if p.style != "" {
		b.WriteString(p.style + " ")
	}
	b.WriteString(p.subject)
	separator := " "
	add := func(part string) {
		if part != "" {
			b.WriteString(separator + part)
		}
		if part != "" && p.commas {
			separator = ", "
		}
	}
	if len(p.traits) > 0 {
		add("with " + list(p.traits))
	}
	add(p.expression)
	for _, part := range p.rest {
		add(part)
	}
	return b.String()
}

// list joins with commas and a last "and".
func list(parts []string) string {
	n := len(parts) - 1
	if n == 0 {
		return parts[0]
	}
	return strings.Join(parts[:n], ", ") + " and " + parts[n]
}

// fit shortens the phrase until the text encoder can read it: first it saves commas and the word background, then it gives up traits
// from the last on.
func (p phrase) fit() phrase {
	long := func() bool { return tokens(p.String()) > longest }
	if long() {
		p.commas = false
	}
	for k, s := range p.rest {
		if colour, plain := strings.CutSuffix(s, " background"); plain && long() {
			p.rest[k] = strings.Replace(colour, "on a ", "on ", 1)
		}
	}
	for long() && len(p.traits) > 0 {
		p.traits = p.traits[:len(p.traits)-1]
	}
	return p
}

// Caption names style, context and a random part of the nameable traits in a random order; now and then it leaves out parts of the
// context. It always says "face" and is at most as long as the demo's text encoder reads.
func Caption(id Identity, c Context, r *rand.Rand) string {
	p := c.phrase("a face")
	chance := func(n int) bool { return r.IntN(n) == 0 }
	p.traits = id.traits()
	r.Shuffle(len(p.traits), func(i, j int) { p.traits[i], p.traits[j] = p.traits[j], p.traits[i] })
	p.traits = p.traits[:min(pick(r, 3, 2, 3, 3, 1), len(p.traits))]
	switch {
	case c.Style == Illustration && chance(5):
		p.style = ""
	case c.Style == Illustration && chance(8):
		p.style = "a portrait of"
	case c.Style == PencilSketch && chance(4):
		p.style = "a sketch of"
	}
	if chance(12) {
		p.expression = ""
	}
	if w := c.worn(); len(w) == 2 && chance(3) {
		p.rest[0] = "wearing " + list([]string{w[1], w[0]})
	}
	for k, n := range []int{14, 5, 7} {
		if chance(n) {
			p.rest[k] = ""
		}
	}
	if c.Scene < Beach && chance(4) {
		p.rest[2] = ""
	}
	if chance(3) {
		r.Shuffle(len(p.rest), func(i, j int) { p.rest[i], p.rest[j] = p.rest[j], p.rest[i] })
	}
	p.commas = !chance(3)
	if p = p.fit(); tokens(p.String()) > longest {
		p.rest[1+r.IntN(2)] = ""
	}
	return p.String()
}

// FullCaption names all of the context and the nameable traits, the boldest first, as far as the demo's text encoder reads.
func FullCaption(id Identity, c Context) string {
	p := c.phrase("a face")
	p.traits = id.traits()
	return p.fit().String()
}

// Prompt names the context only, of a subject such as "<me>" or "a face". A neutral expression, no headwear and no glasses have no words.
func Prompt(c Context, subject string) string { return c.phrase(subject).fit().String() }

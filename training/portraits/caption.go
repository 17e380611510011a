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

// longest is how many words and commas a caption may have: about as many tokens as the text encoder reads.
const longest = 29

// traits are the identity's traits in words.
func (id Identity) traits() []string {
	t := []string{strings.Replace(hairForms[id.HairStyle], "*", hairWords[id.HairColor], 1), skinWords[id.Skin], eyeWords[id.EyeColor]}
	if id.Beard != Shaven {
		t = append(t, beardWords[id.Beard])
	}
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
	worn           []string
	clothes, place string
}

func (c Context) phrase(subject string) phrase {
	p := phrase{style: styleWords[c.Style], subject: subject, worn: c.worn(), clothes: "in a " + c.Clothes.String() + " shirt", place: c.Scene.place()}
	if c.Expression != Neutral {
		p.expression = c.Expression.String()
	}
	return p
}

func (p phrase) String() string {
	var b strings.Builder
	if p.style != "" {
		b.WriteString(p.style + " ")
	}
	b.WriteString(p.subject)
	if len(p.traits) > 0 {
		b.WriteString(" with " + list(p.traits))
		if p.expression != "" {
			b.WriteString(",")
		}
	}
	if p.expression != "" {
		b.WriteString(" " + p.expression)
	}
	rest := []string{p.clothes, p.place}
	if len(p.worn) > 0 {
		rest = append([]string{"wearing " + list(p.worn)}, rest...)
	}
	for _, s := range rest {
		if s != "" {
			b.WriteString(", " + s)
		}
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

// words is the number of words and commas of a caption, a stand-in for its number of tokens.
func words(caption string) int { return len(strings.Fields(caption)) + strings.Count(caption, ",") }

// Caption names style, context and a random part of the nameable traits; now and then it leaves out parts of the context. It always
// says "face".
func Caption(id Identity, c Context, r *rand.Rand) string {
	p := c.phrase("a face")
	chance := func(n int) bool { return r.IntN(n) == 0 }
	p.traits = id.traits()
	r.Shuffle(len(p.traits), func(i, j int) { p.traits[i], p.traits[j] = p.traits[j], p.traits[i] })
	p.traits = p.traits[:min(pick(r, 3, 2, 3, 3, 1), len(p.traits))]
	if c.Style == Illustration && chance(5) {
		p.style = ""
	} else if c.Style == Illustration && chance(6) {
		p.style = "a portrait of"
	} else if c.Style == PencilSketch && chance(5) {
		p.style = "a sketch of"
	}
	if chance(12) {
		p.expression = ""
	}
	if len(p.worn) == 2 && chance(3) {
		p.worn[0], p.worn[1] = p.worn[1], p.worn[0]
	}
	if chance(14) {
		p.worn = nil
	}
	if chance(5) {
		p.clothes = ""
	}
	if chance(7) || c.Scene < Beach && chance(4) {
		p.place = ""
	}
	if chance(5) {
		p.clothes, p.place = p.place, p.clothes
	}
	for words(p.String()) > longest && len(p.traits) > 0 {
		p.traits = p.traits[:len(p.traits)-1]
	}
	return p.String()
}

// FullCaption names all nameable traits and all of the context.
func FullCaption(id Identity, c Context) string {
	p := c.phrase("a face")
	p.traits = id.traits()
	return p.String()
}

// Prompt names the context only, of a subject such as "<me>" or "a face".
func Prompt(c Context, subject string) string { return c.phrase(subject).String() }

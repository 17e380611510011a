package portraits

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"likeness/models/tokenizer"
)

func TestPrompt(t *testing.T) {
	for want, c := range map[string]Context{
		"a pencil sketch of <me> smiling, wearing a crown, in a red shirt, at the beach": {Smiling, Crown, NoGlasses, RedShirt, Beach, PencilSketch, Pose{}, 0},
		"an illustration of <me> in a white shirt, on a white background":                {},
		"pixel art of <me> wearing sunglasses, in a black shirt, in space":               {Glasses: Sunglasses, Clothes: BlackShirt, Scene: Space, Style: PixelArt},
		"an illustration of <me> angry, wearing a wizard hat and glasses, in a purple shirt, underwater": {
			Expression: Angry, Headwear: WizardHat, Glasses: PlainGlasses, Clothes: PurpleShirt, Scene: Underwater},
		"a pencil sketch of <me> surprised wearing a wizard hat and sunglasses in a purple shirt on yellow": {
			Surprised, WizardHat, Sunglasses, PurpleShirt, YellowGround, PencilSketch, Pose{Tilt: 0.1}, 1},
	} {
		if got := Prompt(c, "<me>"); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestFullCaption(t *testing.T) {
	id := Identity{Skin: Pale, HairColor: BrownHair, HairStyle: Curly, Beard: FullBeard, EyeColor: BlueEyes, Freckles: true, Earrings: true}
	for want, c := range map[string]Context{
		"an illustration of a face with curly brown hair, a beard and pale skin in a white shirt in the snow": {Scene: Snow},
		"an illustration of a face with curly brown hair and a beard smiling wearing a crown in a red shirt at the beach": {
			Expression: Smiling, Headwear: Crown, Clothes: RedShirt, Scene: Beach},
	} {
		if got := FullCaption(id, c); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

// Captions are plain lower-case words that say "face", say nothing false, and sometimes leave parts out.
func TestCaption(t *testing.T) {
	plain := regexp.MustCompile(`^[a-z]+(,? [a-z]+)*$`)
	r := rand.New(rand.NewPCG(1, 2))
	named, whole, short := map[string]bool{}, 0, 0
	const n = 3000
	for i := range n {
		id, c := Train.Identity(i), NewContext(r)
		s := Caption(id, c, r)
		if !plain.MatchString(s) || !strings.Contains(s, "face") {
			t.Fatalf("%q", s)
		}
		for _, trait := range id.traits() {
			named[trait] = named[trait] || strings.Contains(s, trait)
		}
		if c.Style != Illustration && !strings.Contains(s, strings.TrimPrefix(c.Style.String(), "pencil ")) {
			t.Errorf("%q does not name the style %q", s, c.Style)
		}
		for v, place := range placeWords {
			if strings.Contains(s, place) && c.Scene != Beach+Scene(v) {
				t.Errorf("%q in the scene %q", s, c.Scene)
			}
		}
		if strings.Contains(s, c.Scene.place()) && strings.Contains(s, c.Clothes.String()+" shirt") {
			whole++
		}
		if tokens(s) < 12 {
			short++
		}
	}
	for trait, ever := range named {
		if !ever {
			t.Errorf("no caption of %d names %q", n, trait)
		}
	}
	if whole < n/3 || short < n/100 {
		t.Errorf("of %d captions %d name clothes and scene, %d are short", n, whole, short)
	}
}

// The captions' own count of tokens is the demo tokenizer's, and nearly all captions fit its text encoder.
func TestCaptionsFitTheTextEncoder(t *testing.T) {
	tok, err := tokenizer.Open("../../models/demo/tokenizer")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	const n = 3000
	long := 0
	for i := range n {
		id, c := Train.Identity(i), NewContext(r)
		caption := Caption(id, c, r)
		for _, s := range []string{caption, FullCaption(id, c), Prompt(c, "a face")} {
			if got, want := tokens(s), len(tok.Tokens(s)); got != want {
				t.Fatalf("%q has %d tokens, not %d", s, want, got)
			}
			if tokens(s) > tok.MaxLength()-2 {
				long++
			}
		}
		if tokens(caption) > longest {
			t.Errorf("%q has %d tokens", caption, tokens(caption))
		}
	}
	if long > n/25 {
		t.Errorf("%d of %d captions are too long", long, 3*n)
	}
}

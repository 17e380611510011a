package portraits

import "math/rand/v2"

// Expression is what the face does.
type Expression int

// Expressions.
const (
	Neutral Expression = iota
	Smiling
	Laughing
	Sad
	Angry
	Surprised
	Winking
)

// Headwear is worn on the head.
type Headwear int

// Headwears.
const (
	NoHeadwear Headwear = iota
	Crown
	Cap
	Beanie
	WizardHat
	CowboyHat
	Headphones
	Flowers
)

// Glasses are worn before the eyes.
type Glasses int

// Glasses.
const (
	NoGlasses Glasses = iota
	PlainGlasses
	Sunglasses
)

// Clothes is the colour of the shirt.
type Clothes int

// Clothes.
const (
	WhiteShirt Clothes = iota
	RedShirt
	BlueShirt
	GreenShirt
	YellowShirt
	PurpleShirt
	BlackShirt
	PinkShirt
)

// Scene is where the person is: a plain ground or a place.
type Scene int

// Scenes.
const (
	WhiteGround Scene = iota
	GreyGround
	PinkGround
	YellowGround
	BlueGround
	GreenGround
	Beach
	Forest
	Space
	City
	Snow
	Sunset
	Mountains
	Desert
	Underwater
	Rainbow
)

// Style is how the portrait is drawn.
type Style int

// Styles.
const (
	Illustration Style = iota
	PencilSketch
	PixelArt
)

// The captions' words, by value.
var (
	expressionNames = []string{"neutral", "smiling", "laughing", "sad", "angry", "surprised", "winking"}
	headwearNames   = []string{"none", "crown", "cap", "beanie", "wizard hat", "cowboy hat", "headphones", "flowers"}
	glassesNames    = []string{"none", "glasses", "sunglasses"}
	clothesNames    = []string{"white", "red", "blue", "green", "yellow", "purple", "black", "pink"}
	sceneNames      = []string{"white", "grey", "pink", "yellow", "blue", "green",
		"beach", "forest", "space", "city", "snow", "sunset", "mountains", "desert", "underwater", "rainbow"}
	styleNames = []string{"illustration", "pencil sketch", "pixel art"}
)

// String is the value's name in LabelNames.
func (v Expression) String() string { return expressionNames[v] }

// String is the value's name in LabelNames.
func (v Headwear) String() string { return headwearNames[v] }

// String is the value's name in LabelNames.
func (v Glasses) String() string { return glassesNames[v] }

// String is the value's name in LabelNames.
func (v Clothes) String() string { return clothesNames[v] }

// String is the value's name in LabelNames.
func (v Scene) String() string { return sceneNames[v] }

// String is the value's name in LabelNames.
func (v Style) String() string { return styleNames[v] }

// Pose is how the head is held; the zero Pose is upright, in the middle, looking ahead.
type Pose struct {
	Tilt           float64 // radians, clockwise
	ShiftX, ShiftY float64 // pixels
	Zoom           float64 // added to a scale of 1
	Turn           float64 // -1 to 1: to the left or right of the picture
}

// Context is all of a portrait that is not the person. The zero Context is a neutral illustration on white.
type Context struct {
	Expression Expression
	Headwear   Headwear
	Glasses    Glasses
	Clothes    Clothes
	Scene      Scene
	Style      Style
	Pose       Pose
	Seed       uint64 // of what is random within the scene
}

// NewContext draws a context; plain choices are more frequent than others.
func NewContext(r *rand.Rand) Context {
	c := Context{
		Expression: Expression(r.IntN(len(expressionNames))),
		Headwear:   Headwear(pick(r, 14, 4, 4, 4, 4, 4, 4, 4)),
		Glasses:    Glasses(pick(r, 6, 3, 2)),
		Clothes:    Clothes(r.IntN(len(clothesNames))),
		Scene:      Scene(r.IntN(int(Beach))),
		Style:      Style(pick(r, 6, 2, 2)),
		Pose: Pose{
			Tilt:   0.13 * (2*r.Float64() - 1),
			ShiftX: 4 * (2*r.Float64() - 1),
			ShiftY: 3 * (2*r.Float64() - 1),
			Zoom:   0.07 * (2*r.Float64() - 1),
			Turn:   2*r.Float64() - 1,
		},
		Seed: r.Uint64(),
	}
	if r.IntN(10) < 7 {
		c.Scene = Beach + Scene(r.IntN(len(sceneNames)-int(Beach)))
	}
	return c
}

// Labels are the context's classes, in the order of LabelNames.
func (c Context) Labels() [6]int {
	return [6]int{int(c.Expression), int(c.Headwear), int(c.Glasses), int(c.Clothes), int(c.Scene), int(c.Style)}
}

// LabelNames names the facets of a context and their values.
var LabelNames = [6]struct {
	Name   string
	Values []string
}{
	{"expression", expressionNames}, {"headwear", headwearNames}, {"glasses", glassesNames},
	{"clothes", clothesNames}, {"scene", sceneNames}, {"style", styleNames},
}

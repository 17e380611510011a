// Package portraits draws the data set of the demo models: illustrated portraits of people who do not exist. An Identity is who is drawn,
// a Context how (expression, headwear, glasses, clothes, scene, style, pose), and a caption says part of it in plain words. As the
// generator knows the truth, likeness and editability can be measured.
package portraits

import "math/rand/v2"

// Skin is a skin tone.
type Skin int

// Skin tones.
const (
	Pale Skin = iota
	Fair
	Tan
	Brown
	Dark
)

// HairColor is a colour of hair and beard.
type HairColor int

// Hair colours.
const (
	BlackHair HairColor = iota
	BrownHair
	BlondHair
	RedHair
	GreyHair
	WhiteHair
	BlueHair
	PinkHair
)

// HairStyle is a cut of hair.
type HairStyle int

// Hair styles.
const (
	Bald HairStyle = iota
	Cropped
	Short
	Spiky
	Curly
	Afro
	Long
	Wavy
	Bob
	Bun
	Ponytail
	Pigtails
	Mohawk
	Braids
)

// Hairline is how the hair ends on the forehead.
type Hairline int

// Hairlines.
const (
	RoundHairline Hairline = iota
	PeakHairline           // a widow's peak
	SideParting
	MiddleParting
	Fringe // over the forehead
)

// Beard is facial hair.
type Beard int

// Beards.
const (
	Shaven Beard = iota
	Stubble
	Moustache
	Goatee
	FullBeard
	LongBeard
)

// EyeColor is the colour of the irises.
type EyeColor int

// Eye colours.
const (
	BrownEyes EyeColor = iota
	BlueEyes
	GreenEyes
	GreyEyes
)

// Nose is a shape of nose.
type Nose int

// Noses.
const (
	ButtonNose Nose = iota
	StraightNose
	PointedNose
	BroadNose
)

// Mole is where a beauty spot is.
type Mole int

// Moles.
const (
	NoMole Mole = iota
	LeftMole
	RightMole
	ChinMole
)

// Identity is one person. Every float lies in [0, 1], from small, low, narrow or light to large, high, wide or deep.
type Identity struct {
	Skin      Skin
	SkinShade float64 // within the tone
	SkinWarm  float64
	Blush     float64
	Freckles  bool
	Mole      Mole

	HairColor  HairColor
	HairShade  float64
	HairStyle  HairStyle
	HairVolume float64
	HairHeight float64 // of the hairline
	Hairline   Hairline
	HairSide   bool // the side of a parting or a ponytail

	Beard      Beard
	BeardWidth float64

	FaceWidth float64
	Forehead  float64 // height above the eyes
	Chin      float64 // length of the face below the eyes
	Jaw       float64 // narrow to square
	ChinShape float64 // pointed to flat
	Cheeks    float64 // fullness

	EyeColor   EyeColor
	EyeSpacing float64
	EyeSize    float64
	EyeRound   float64
	EyeTilt    float64
	Iris       float64
	Lashes     bool

	BrowThick  float64
	BrowHeight float64
	BrowTilt   float64
	BrowArch   float64

	Nose       Nose
	NoseLength float64
	NoseWidth  float64

	MouthWidth  float64
	MouthHeight float64
	Lips        float64 // fullness
	LipTint     float64

	EarSize   float64
	EarHeight float64
	Earrings  bool

	Neck      float64
	Shoulders float64
}

// NewIdentity is the person of seed: the same seed always gives the same person.
func NewIdentity(seed uint64) Identity {
	r := rand.New(rand.NewPCG(mix(seed), 0x706f727472616974))
	f := r.Float64
	var id Identity
	manly := f()
	id.Skin, id.SkinShade, id.SkinWarm = Skin(r.IntN(5)), f(), f()
	id.Blush, id.Freckles = f(), r.IntN(4) == 0
	if r.IntN(4) == 0 {
		id.Mole = LeftMole + Mole(r.IntN(3))
	}
	id.HairColor = HairColor(pick(r, 18, 18, 16, 14, 10, 9, 8, 7))
	if manly > 0.5 {
		id.HairStyle = HairStyle(pick(r, 13, 12, 18, 13, 12, 9, 5, 5, 1, 4, 4, 0, 8, 2))
	} else {
		id.HairStyle = HairStyle(pick(r, 2, 3, 9, 4, 10, 9, 13, 12, 12, 10, 9, 8, 3, 8))
	}
	id.HairShade, id.HairVolume, id.HairHeight = f(), f(), f()
	id.Hairline, id.HairSide = Hairline(r.IntN(5)), r.IntN(2) == 0
	if manly > 0.4 {
		id.Beard = Beard(pick(r, 24, 12, 16, 14, 16, 10))
	}
	id.BeardWidth = f()
	id.FaceWidth, id.Forehead, id.Chin = f(), f(), f()
	id.Jaw, id.ChinShape, id.Cheeks = f(), f(), f()
	id.EyeColor, id.EyeSpacing, id.EyeSize = EyeColor(pick(r, 34, 26, 24, 16)), f(), f()
	id.EyeRound, id.EyeTilt, id.Iris, id.Lashes = f(), f(), f(), manly < 0.5 && r.IntN(4) > 0
	id.BrowThick, id.BrowHeight, id.BrowTilt, id.BrowArch = f(), f(), f(), f()
	id.Nose, id.NoseLength, id.NoseWidth = Nose(r.IntN(4)), f(), f()
	id.MouthWidth, id.MouthHeight, id.Lips, id.LipTint = f(), f(), f(), f()
	id.EarSize, id.EarHeight, id.Earrings = f(), f(), r.Float64() < 0.45-0.35*manly
	id.Neck, id.Shoulders = 0.7*f()+0.3*manly, 0.7*f()+0.3*manly
	return id
}

// Split is one of three sets of people that have nobody in common.
type Split int

// The splits.
const (
	Train Split = iota
	Validation
	Test
)

// Identity is the i-th person of the split, for any i ≥ 0.
func (s Split) Identity(i int) Identity { return NewIdentity(s.seed(i)) }

// seed keeps the split in the two highest bits, so that splits never meet.
func (s Split) seed(i int) uint64 { return uint64(s)<<62 | uint64(i)&(1<<62-1) }

// mix is the finaliser of SplitMix64 (Steele et al., 2014), a bijection.
func mix(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// pick draws an index with probability proportional to its weight.
func pick(r *rand.Rand, weights ...int) int {
	total := 0
	for _, w := range weights {
		total += w
	}
	n := r.IntN(total)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return 0
}

// Package protocol is what a server and its tuning worker say to each other. The worker is a child process, `training worker`: the server
// writes Requests to its standard input and reads Messages from its standard output, each as one line of JSON. What the worker wants
// to tell people goes to its standard error.
//
//	server                                 worker
//	starts it                         →
//	                                  ←    {"hello":2}                     Version, within a moment
//	{"job":"job_a","method":"quick",…} →
//	                                  ←    {"job":"job_a","alive":true}    now and then, while it computes
//	                                  ←    {"job":"job_a","step":{…}}      after every step
//	                                  ←    {"job":"job_a","done":{…}}      or "failed"
//	closes its standard input         →    ends
//
// A worker tunes one concept at a time and keeps the model open between them. It is cancelled by being killed. One that says nothing for
// long while it has a request hangs: it says that it is alive only while it uses the processor. A line that is no Message, or the end
// of its output, is a crash. When its standard input ends, so does the worker, at once: it never outlives its server.
package protocol

// Version is of this protocol; server and worker must have the same.
const Version = 2

// MaxLine is how many bytes a line has at most: photos and concepts are in it as base64.
const MaxLine = 512 << 20

// Settings say what is learned and for how long. A zero number takes the method's own.
type Settings struct {
	Method       string  `json:"method"`
	Word         string  `json:"word"`
	Class        string  `json:"class"`
	Steps        int     `json:"steps,omitempty"`
	LearningRate float64 `json:"learning_rate,omitempty"`
	Batch        int     `json:"batch,omitempty"`
	Accumulate   int     `json:"accumulate,omitempty"` // batches in a step; 0: 1
	Resolution   int     `json:"resolution,omitempty"` // side in pixels that photos are learned at; 0: the model's
	LowMemory    bool    `json:"low_memory,omitempty"` // less memory in more time
	Rank         int     `json:"rank,omitempty"`
	Vectors      int     `json:"vectors,omitempty"`
	TextEncoder  bool    `json:"text_encoder,omitempty"`
	Seed         uint64  `json:"seed,omitempty"`
	Captions     string  `json:"captions,omitempty"`      // a ready set of package tune: portrait or photo; empty: portrait
	PreviewEvery int     `json:"preview_every,omitempty"` // steps between pictures; 0: none
}

// Request asks for one concept.
type Request struct {
	Job string `json:"job"`
	Settings
	Photos [][]byte `json:"photos"` // PNG, JPEG or WebP files of one subject
}

// Message is what a worker says: one of its fields besides Job.
type Message struct {
	Job    string   `json:"job,omitempty"`
	Hello  int      `json:"hello,omitempty"` // Version, once and first
	Alive  bool     `json:"alive,omitempty"`
	Step   *Step    `json:"step,omitempty"`
	Done   *Done    `json:"done,omitempty"`
	Failed *Failure `json:"failed,omitempty"`
}

// Step tells of a finished step.
type Step struct {
	Step        int     `json:"step"`
	Steps       int     `json:"steps"`
	Loss        float64 `json:"loss"`
	HeldOut     float64 `json:"held_out_loss"` // on noise that is never trained on, as last measured
	Best        int     `json:"best_step"`     // with the lowest of these so far
	SecondsLeft float64 `json:"seconds_left"`
	PerSecond   float64 `json:"steps_per_second"`
	Preview     []byte  `json:"preview,omitempty"` // a PNG file, on some steps
}

// Done is what was learned.
type Done struct {
	Concept []byte  `json:"concept"` // a concept file, of the best step
	Best    int     `json:"best_step"`
	Steps   int     `json:"steps"`         // that were taken
	First   float64 `json:"first_loss"`    // on held-out noise, before the first step
	Last    float64 `json:"held_out_loss"` // and at the best
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note,omitempty"` // why it ended before its time, or what the concept does not hold of what was learned
}

// Failure says why a request cannot be fulfilled; to try it again would not help.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"` // for people, lower-case
}

// Codes of failures. A photo at fault has "image_" and the code of its error.
const (
	FailedModel  = "model_not_tunable" // the worker cannot tune the model
	FailedTuning = "tuning_failed"     // these settings, on these photos
	FailedImage  = "image_"
)

// Package api is Likeness over HTTP: concepts, pictures in the shape of OpenAI's Images API, models, health. Its document
// is openapi.json.
package api

import (
	"context"
	"errors"
	"image"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"likeness/encoder"
	"likeness/encoder/concept"
	"likeness/models/pipeline"
	"likeness/server/jobs"
	"likeness/server/store"
	"likeness/training/protocol"
)

// PhotoReader decodes and checks one uploaded photo; Read also aligns it. *encoder.Intake is one.
type PhotoReader interface {
	Decode(data []byte) (image.Image, error)
	Read(ctx context.Context, data []byte) (*encoder.Photo, error)
}

// ConceptEncoder turns aligned photos of one person into a concept, and a concept into what the networks read.
type ConceptEncoder interface {
	Encode(ctx context.Context, photos []*encoder.Photo, word, class string) (*concept.Concept, error)
	Subject(c *concept.Concept, scale float64) (pipeline.Subject, error)
}

// Exchange reads files of other programs as concepts, and writes concepts as them.
type Exchange interface {
	// Import reads a LoRA or an embedding, or a concept that was downloaded; name is the file's. An empty word is taken from the file, an
	// empty class too. What it found is in the concept's notes. A file that cannot be used is an *exchange.Error, *safetensors.Error or
	// *concept.DamagedError.
	Import(name string, data []byte, word, class string) (*concept.Concept, error)
	// Export writes a concept in a format of package exchange; one that cannot hold it is an *exchange.FormatError.
	Export(c *concept.Concept, format string) ([]byte, error)
}

// Generator makes one picture; *pipeline.Engine is one. Check is the error that Generate would begin with, for which the request is at fault.
type Generator interface {
	Check(r pipeline.Request) error
	Generate(ctx context.Context, r pipeline.Request, onEvent func(pipeline.Event)) (*pipeline.Result, error)
}

// Model describes what is served, and the defaults of a request.
type Model struct {
	ID            string // as clients name it
	BaseModel     string // fingerprint of the folder; concepts made for another one are refused
	Encoder       string // fingerprint of the encoder
	Width, Height int    // of a picture, in pixels
	Multiple      int    // of which a picture's sides are multiples
	Steps         int
	GuidanceScale float64
	Scheduler     string            // empty: the folder's own
	Schedulers    []string          // all that a request may name
	Class         string            // the noun of an upload that names none
	Tuning        []protocol.Method // the methods, with what suits the model
	// Fit is the size of a picture drawn from one of the given size, where a request names none; nil: Width and Height.
	Fit func(width, height int) (int, int)
}

// Config is what a Server is made of. Limits that are zero take their default.
type Config struct {
	Store     store.Store
	Photos    PhotoReader
	Encoder   ConceptEncoder
	Generator Generator
	Exchange  Exchange // nil: neither files nor other formats
	Model     Model
	Page      http.Handler                    // everything outside the API's paths; nil: nothing
	Jobs      *jobs.Queue                     // nil: concepts cannot be tuned
	Samples   fs.FS                           // photos that a tuning may name; nil: there are none
	Ready     func(ctx context.Context) error // what /readyz asks besides the store; nil: nothing
	Log       *slog.Logger

	MaxUpload int64         // bytes of an upload with all its photos; 32 MiB
	MaxQueue  int           // pictures asked for and not finished; one more is answered 429; 64
	Timeout   time.Duration // of one request; 5 minutes
}

func (c Config) withDefaults() Config {
	if c.MaxUpload == 0 {
		c.MaxUpload = 32 << 20
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = 64
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Minute
	}
	return c
}

// Limits of requests.
const (
	maxJSON       = 64 << 10 // bytes of a JSON body
	maxEncodings  = 2        // uploads being read and encoded at once
	maxUploads    = 8        // uploads admitted and not finished
	pictureMemory = 64 << 20 // bytes of pictures kept for their url
	pictureLife   = time.Hour
)

// Server answers the API's requests.
type Server struct {
	Config
	echo      *echo.Echo
	drawing   *queue // of pictures; whose turn it is, the Generator decides
	uploading *queue
	encoding  *semaphore.Weighted
	pictures  *pictures
	encodings singleflight.Group // uploads of the same photos at the same moment share one run
}

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{Config: cfg.withDefaults(), echo: echo.New()}
	s.drawing = &queue{name: "pictures", limit: s.MaxQueue}
	s.uploading = &queue{name: "uploads", limit: maxUploads}
	s.encoding = semaphore.NewWeighted(maxEncodings)
	s.pictures = newPictures(pictureMemory, pictureLife)
	s.echo.HTTPErrorHandler = s.answerError
	s.echo.JSONSerializer = plainJSON{}
	s.echo.IPExtractor = echo.ExtractIPDirect()
	s.echo.Use(s.identify, s.log, s.recover, s.protect)
	s.routes()
	return s
}

func (s *Server) routes() {
	e := s.echo
	e.POST("/v1/concepts", s.createConcept)
	e.GET("/v1/concepts", s.listConcepts)
	e.GET("/v1/concepts/:id", s.getConcept)
	e.PATCH("/v1/concepts/:id", s.changeConcept)
	e.DELETE("/v1/concepts/:id", s.deleteConcept)
	e.GET("/v1/concepts/:id/file", s.conceptFile)
	e.GET("/v1/concepts/:id/image", s.conceptImage)
	e.GET("/v1/concepts/:id/versions", s.listVersions)
	e.POST("/v1/concepts/:id/restore", s.restoreConcept)
	e.POST("/v1/concepts/:id/tune", s.tuneConcept)
	e.GET("/v1/jobs/:id", s.getJob)
	e.GET(jobEventsPath, s.jobEvents)
	e.DELETE("/v1/jobs/:id", s.cancelJob)
	e.POST("/v1/images/generations", s.generate)
	e.POST("/v1/images/edits", s.edit)
	e.GET("/v1/images/:id", s.picture)
	e.GET("/v1/models", s.listModels)
	e.GET("/openapi.json", s.document)
	e.GET("/healthz", s.healthz)
	e.GET("/readyz", s.readyz)
	if s.Page != nil {
		e.GET("/*", echo.WrapHandler(s.Page))
		e.RouteNotFound("/v1/*", echo.NotFoundHandler)
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Serve answers requests on an address until ctx ends, then lets running requests finish for at most grace; those that have not are told that
// the server is shutting down. Listening is called once with the address that was opened.
func (s *Server) Serve(ctx context.Context, addr string, grace time.Duration, listening func(addr string)) error {
	listener, err := listen(ctx, addr)
	if err != nil {
		return err
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	server := s.httpServer(base)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	listening(listener.Addr().String())
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	shutdown := func(limit time.Duration) error {
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer stop()
		return server.Shutdown(end)
	}
	if err := shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cancel(pipeline.ErrClosed)
	if err := shutdown(lastWords); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return server.Close()
}

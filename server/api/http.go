package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/labstack/echo/v4"
)

// Time a client is given. What a request may take to answer is Config.Timeout.
const (
	headerTime = 5 * time.Second
	bodyTime   = 90 * time.Second
	idleTime   = time.Minute
	writeTime  = 30 * time.Second
	lastWords  = 2 * time.Second // to answer requests that the server's end cuts short
	maxHeader  = 16 << 10        // bytes
)

func (s *Server) httpServer(base context.Context) *http.Server {
	return &http.Server{
		Handler: s, ReadHeaderTimeout: headerTime, ReadTimeout: bodyTime, IdleTimeout: idleTime,
		WriteTimeout: bodyTime + s.Timeout + writeTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return base },
		ErrorLog:    slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: stop what listens there, or choose another with --addr", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("--addr %s: %w; give a host and a port, as 127.0.0.1:8080", addr, err)
	}
	return listener, nil
}

// identify gives every answer an id, which the log has too.
func (s *Server) identify(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Response().Header().Set(echo.HeaderXRequestID, "req_"+strings.ToLower(rand.Text()))
		return next(c)
	}
}

// bodyRead lifts the limit on reading, which is over: it would be taken for the client going away.
func bodyRead(c echo.Context) error {
	return http.NewResponseController(c.Response()).SetReadDeadline(time.Time{})
}

// log writes a line per request, without prompts, names or photos.
func (s *Server) log(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		err := next(c)
		if err != nil {
			c.Error(err)
		}
		r, w := c.Request(), c.Response()
		level := slog.LevelInfo
		if isHealth(r.URL.Path) {
			level = slog.LevelDebug
		} else if w.Status >= 500 {
			level = slog.LevelError
		}
		attrs := []slog.Attr{
			slog.String("method", r.Method), slog.String("route", c.Path()), slog.Int("status", w.Status),
			slog.Duration("time", time.Since(start)), slog.Int64("bytes", w.Size), slog.String("request", requestID(c)),
		}
		if err != nil {
			p := problemOf(err)
			attrs = append(attrs, slog.String("code", p.code))
			if p.status >= 500 { // the texts of others may quote a prompt
				attrs = append(attrs, slog.String("error", err.Error()))
			}
		}
		s.Log.LogAttrs(r.Context(), level, "request", attrs...)
		return nil
	}
}

func isHealth(path string) bool { return path == "/healthz" || path == "/readyz" }

func requestID(c echo.Context) string { return c.Response().Header().Get(echo.HeaderXRequestID) }

// recover turns a panic into an answer, and logs where it came from.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("panic", "panic", fmt.Sprint(p), "request", requestID(c), "stack", string(debug.Stack()))
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return next(c)
	}
}

// policy lets the page load only its own files.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// protect refuses requests that another site's page makes in a visitor's browser, and sets the headers that keep a
// browser from guessing.
func (s *Server) protect(next echo.HandlerFunc) echo.HandlerFunc {
	origin := http.NewCrossOriginProtection()
	return func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", policy)
		if err := origin.Check(c.Request()); err != nil {
			return &problem{http.StatusForbidden, "forbidden", "", "a page of another site may not make this request"}
		}
		if strings.HasPrefix(c.Request().URL.Path, "/v1/") {
			h.Set("Cache-Control", "no-store")
			if c.Path() != jobEventsPath { // a job takes its time
				ctx, cancel := context.WithTimeout(c.Request().Context(), s.Timeout)
				defer cancel()
				c.SetRequest(c.Request().WithContext(ctx))
			}
		}
		return unlessClosed(c, next(c))
	}
}

package redis

import (
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"likeness/server/store"
	"likeness/server/store/storetest"
)

// server is a redis-server of this test, whose files are in dir.
type server struct {
	url, dir, port string
	cmd            *exec.Cmd
}

func startServer(t *testing.T) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	listener.Close()
	s := &server{url: "redis://127.0.0.1:" + port, dir: t.TempDir(), port: port}
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server is not installed: run scripts/setup, or apt-get install redis-server")
	}
	s.cmd = exec.Command(binary, "--port", s.port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if client, err := Open(s.url); err == nil {
			client.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("redis-server does not answer")
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func TestStore(t *testing.T) {
	redis := startServer(t)
	number := 0
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		url := fmt.Sprintf("%s/%d", redis.url, number)
		number++
		return storetest.Subject{
			Open: func() (store.Store, error) { return Open(url) },
			Damage: func(s store.Store, id string, value []byte) error {
				return s.(*Store).client.HSet(t.Context(), conceptKey(id), valueField, value).Err()
			},
		}
	})
}

// Redis is killed and started again: the store says so meanwhile, goes on afterwards, and nothing is lost.
func TestServerRestarts(t *testing.T) {
	redis := startServer(t)
	s, err := Open(redis.url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := storetest.Concept("me", "p")
	if err := s.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	redis.kill()
	if _, err := s.Get(t.Context(), c.ID); err == nil || !strings.Contains(err.Error(), store.ErrUnavailable.Error()) {
		t.Errorf("with Redis gone: %v", err)
	}
	redis.start(t)
	if got, err := s.Get(t.Context(), c.ID); err != nil || got.Word != "me" {
		t.Errorf("after the restart: %v, %v", got, err)
	}
}

// Deleting leaves no key behind.
func TestDeleteLeavesNothing(t *testing.T) {
	redis := startServer(t)
	s, err := Open(redis.url)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := storetest.Concept("me", "p")
	for range 2 {
		if err := s.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c.Word = "ann"
	}
	if err := s.Delete(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.client.Keys(t.Context(), "*").Result(); err != nil || len(keys) != 0 {
		t.Errorf("left: %v, %v", keys, err)
	}
}

func TestOpenErrors(t *testing.T) {
	for url, says := range map[string]string{"redis://127.0.0.1:1": "127.0.0.1:1", "http://x": "redis://", "redis://x/name": "redis://"} {
		if s, err := Open(url); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want an error with %q", url, err, says)
			if err == nil {
				s.Close()
			}
		}
	}
}

// The client library's own lines, as of a connection that fails, are in the server's log and form.
func TestLogTo(t *testing.T) {
	var text strings.Builder
	LogTo(slog.New(slog.NewTextHandler(&text, nil)))
	defer LogTo(slog.Default())
	if _, err := Open("redis://127.0.0.1:1"); err == nil {
		t.Fatal("nobody listens there")
	}
	if got := text.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "redis: ") {
		t.Errorf("the log says %q", got)
	}
}

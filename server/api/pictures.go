package api

import (
	"container/list"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// pictures keeps finished pictures in memory for a while, the newest within a number of bytes.
type pictures struct {
	mu    sync.Mutex
	limit int
	life  time.Duration
	now   func() time.Time
	size  int
	order *list.List // of *keptPicture, oldest first
	byID  map[string]*list.Element
}

type keptPicture struct {
	id   string
	png  []byte
	made time.Time
}

func newPictures(limit int, life time.Duration) *pictures {
	return &pictures{limit: limit, life: life, now: time.Now, order: list.New(), byID: map[string]*list.Element{}}
}

// add keeps a PNG file and returns its id.
func (p *pictures) add(png []byte) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := &keptPicture{"img_" + strings.ToLower(rand.Text()), png, p.now()}
	p.byID[kept.id] = p.order.PushBack(kept)
	p.size += len(png)
	p.drop()
	return kept.id
}

// get returns a PNG file, or nil if it is no longer kept.
func (p *pictures) get(id string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	if e := p.byID[id]; e != nil {
		return e.Value.(*keptPicture).png
	}
	return nil
}

// drop forgets what is too old or too much.
func (p *pictures) drop() {
	for e := p.order.Front(); e != nil; e = p.order.Front() {
		oldest := e.Value.(*keptPicture)
		if p.size <= p.limit && p.now().Sub(oldest.made) < p.life {
			return
		}
		p.order.Remove(e)
		delete(p.byID, oldest.id)
		p.size -= len(oldest.png)
	}
}

// picture is GET /v1/images/{id}.png.
func (s *Server) picture(c echo.Context) error {
	id, isPNG := strings.CutSuffix(c.Param("id"), ".png")
	if png := s.pictures.get(id); isPNG && png != nil {
		return c.Blob(http.StatusOK, "image/png", png)
	}
	return &problem{http.StatusNotFound, "not_found", "", "there is no such picture: pictures are kept for an hour, the newest ones only"}
}

package caddymodule

import (
	"crypto/sha256"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/whisperpool/whisperpool/transcript"
)

// How long, and how many, uploads are remembered under which backends died.
const (
	poisonTime = 10 * time.Minute
	poisonMost = 4096
)

// poisons remembers uploads under which backends died, by the SHA-256 of the file, so that the next one
// that sends it costs no backend.
type poisons struct {
	mu    sync.Mutex
	until map[fingerprint]time.Time
	order []fingerprint // as they expire
	sizes map[int64]int // so that only uploads of a size that is remembered are hashed
}

type fingerprint struct {
	size int64
	sum  [sha256.Size]byte
}

func fingerprintOf(file *spool) (fingerprint, error) {
	f := fingerprint{size: file.size}
	hash := sha256.New()
	if _, err := io.Copy(hash, file.Open()); err != nil {
		return f, err
	}
	hash.Sum(f.sum[:0])
	return f, nil
}

// add remembers an upload from now on. One that can't be read back is not.
func (p *poisons) add(file *spool, now time.Time) {
	f, err := fingerprintOf(file)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(now)
	if _, known := p.until[f]; known {
		return
	}
	if len(p.order) == poisonMost {
		p.drop()
	}
	if p.until == nil {
		p.until, p.sizes = map[fingerprint]time.Time{}, map[int64]int{}
	}
	p.until[f] = now.Add(poisonTime)
	p.order = append(p.order, f)
	p.sizes[f.size]++
}

// has tells whether an upload is remembered at now. It is hashed only if one of its size is.
func (p *poisons) has(file *spool, now time.Time) bool {
	p.mu.Lock()
	p.forget(now)
	likely := p.sizes[file.size] > 0
	p.mu.Unlock()
	if !likely {
		return false
	}
	f, err := fingerprintOf(file)
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.until[f]
	return known
}

// forget drops what has expired. Requires mu.
func (p *poisons) forget(now time.Time) {
	for len(p.order) > 0 && !now.Before(p.until[p.order[0]]) {
		p.drop()
	}
}

// drop forgets the oldest. Requires mu.
func (p *poisons) drop() {
	f := p.order[0]
	if p.order = p.order[1:]; len(p.order) == 0 {
		p.order = nil // the array behind it too
	}
	delete(p.until, f)
	if p.sizes[f.size]--; p.sizes[f.size] == 0 {
		delete(p.sizes, f.size)
	}
}

// poisonous is final, or the client's own retries would take more backends down.
func poisonous() *transcript.Error {
	problem := transcript.Invalid("file", "poison", "backends died while they worked on this file, so it is not given to another one for %d minutes; "+
		"is it damaged? converting it, to 16 kHz FLAC for instance, may help", int(poisonTime.Minutes()))
	problem.Status = http.StatusUnprocessableEntity
	return problem
}

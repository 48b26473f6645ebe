package bench

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"
)

// Progress counts what a run has done so far. A nil one counts nothing.
type Progress struct {
	total           int // 0: not known
	begun, finished atomic.Int64
	failed          atomic.Int64 // refused ones among them
}

// NewProgress counts towards total requests; 0 when it is not known how many there will be.
func NewProgress(total int) *Progress { return &Progress{total: total} }

func (p *Progress) started() {
	if p != nil {
		p.begun.Add(1)
	}
}

func (p *Progress) ended(c Class) {
	if p == nil {
		return
	}
	p.finished.Add(1)
	if c != OK {
		p.failed.Add(1)
	}
}

// bar draws how far it is after so long.
func (p *Progress) bar(elapsed time.Duration) string {
	const width = 30
	done, begun, failed := p.finished.Load(), p.begun.Load(), p.failed.Load()
	var text strings.Builder
	if p.total > 0 {
		full := int(done) * width / p.total
		fmt.Fprintf(&text, "[%s%s] %d of %d", strings.Repeat("=", full), strings.Repeat(" ", width-full), done, p.total)
	} else {
		fmt.Fprintf(&text, "%d done", done)
	}
	fmt.Fprintf(&text, ", %d under way, %.0f s", begun-done, elapsed.Seconds())
	if failed > 0 {
		fmt.Fprintf(&text, ", %d not served", failed)
	}
	return text.String()
}

// Show draws the bar on a terminal until ctx ends, and wipes it then. It returns at once; the
// function it returns waits until the terminal is free again.
func (p *Progress) Show(ctx context.Context, terminal io.Writer) (wait func()) {
	wiped := make(chan struct{})
	go func() {
		defer close(wiped)
		defer fmt.Fprint(terminal, "\r\033[K")
		started := time.Now()
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				fmt.Fprintf(terminal, "\r\033[K%s", p.bar(time.Since(started)))
			}
		}
	}()
	return func() { <-wiped }
}

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// pageMax is how long anything may take in a browser that shares its cores with the other tests.
const pageMax = 2 * time.Minute

// browser is one page of a Chromium without a window. What its console complains of, and what it fetches, is
// noted.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string
	fetched  []string
}

// startBrowser opens a page of the browser that the environment names.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:len(chromedp.DefaultExecAllocatorOptions):len(chromedp.DefaultExecAllocatorOptions)],
		chromedp.ExecPath(env(t, "WHISPERPOOL_BROWSER")), chromedp.WSURLReadTimeout(startMax), chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 { // Chromium's sandbox refuses to run as root
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, _ := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx}
	var listeners sync.WaitGroup
	listening, deaf := context.WithCancel(ctx)
	t.Cleanup(func() {
		deaf()
		listeners.Wait()
		closing, cancel := context.WithTimeout(ctx, pageMax)
		defer cancel()
		if err := chromedp.Cancel(closing); err != nil {
			t.Logf("closing the browser: %v", err)
		}
		stop()
	})
	_, err := chromedp.Run(ctx, chromedp.Func(func(ctx context.Context, page *chromedp.Target) error {
		listen(listening, &listeners, page, runtime.ExceptionThrown, func(e runtime.EventExceptionThrown) {
			b.complain("exception: %s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		})
		listen(listening, &listeners, page, runtime.ConsoleAPICalled, func(e runtime.EventConsoleAPICalled) {
			b.complain("console.%s: %+v", e.Type, e.Args)
		})
		listen(listening, &listeners, page, cdplog.EntryAdded, func(e cdplog.EventEntryAdded) {
			b.complain("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		})
		listen(listening, &listeners, page, network.RequestWillBeSent, func(e network.EventRequestWillBeSent) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.fetched = append(b.fetched, e.Request.URL)
		})
		if _, err := cdp.Call(ctx, page, cdplog.Enable, cdp.Empty{}); err != nil {
			return err
		}
		if _, err := cdp.Call(ctx, page, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, page, runtime.Enable, cdp.Empty{})
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func listen[E any](ctx context.Context, all *sync.WaitGroup, page *chromedp.Target, kind cdp.Event[E], heard func(E)) {
	events := cdp.Events(ctx, page, kind)
	all.Go(func() {
		for e, err := range events {
			if err != nil {
				return
			}
			heard(e)
		}
	})
}

func (b *browser) complain(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, fmt.Sprintf(format, args...))
}

// clean fails the test if the console has complained since the last time, or something was fetched from elsewhere
// than from the origins.
func (b *browser) clean(origins ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, trouble := range b.troubles {
		b.t.Errorf("the console says %s", trouble)
	}
	for _, url := range b.fetched {
		ours := strings.HasPrefix(url, "data:") || url == "about:blank"
		for _, origin := range origins {
			ours = ours || strings.HasPrefix(url, origin+"/")
		}
		if !ours {
			b.t.Errorf("the page fetched %s", url)
		}
	}
	if len(b.fetched) == 0 {
		b.t.Error("no request was noted, so this shows nothing")
	}
	b.troubles, b.fetched = nil, nil
}

// forget has clean say nothing of what was before.
func (b *browser) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles, b.fetched = nil, nil
}

// do runs something in the page and returns its value.
func do[T any](b *browser, what string, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, pageMax)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	return value
}

func (b *browser) open(url string) {
	b.t.Helper()
	do(b, "opening "+url, chromedp.Navigate(url))
}

// eval is the value of an expression, a promise's when it is there.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	return do(b, expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true, and returns when that was seen.
func (b *browser) until(what, expression string) time.Time {
	b.t.Helper()
	deadline := time.Now().Add(pageMax)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](b, "!!("+expression+")") {
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %v: %s; the page shows\n%s", pageMax, what, eval[string](b, "document.body.innerText"))
		}
		<-tick.C
	}
	return time.Now()
}

// look has the page shown as by a device.
func (b *browser) look(scheme string, width, height int64) {
	b.t.Helper()
	do(b, "the size", chromedp.EmulateViewport(width, height))
	do(b, "the colours", chromedp.Func(func(ctx context.Context, page *chromedp.Target) error {
		_, err := cdp.Call(ctx, page, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
		})
		return err
	}))
}

// accessible has axe look at the page as it is shown now.
func (b *browser) accessible(what string) {
	b.t.Helper()
	if !eval[bool](b, "typeof axe === 'object'") {
		script, err := os.ReadFile(env(b.t, "WHISPERPOOL_AXE"))
		if err != nil {
			b.t.Fatal(err)
		}
		eval[bool](b, string(script)+"\n;true")
	}
	// With the rules of WCAG 2.2, A and AA, and with best practices, as Lighthouse has them.
	found := eval[[]struct {
		ID, Help string
		Nodes    []struct {
			HTML, FailureSummary string
		}
	}](b, "axe.run(document, {resultTypes: ['violations']}).then(r => { if (r.passes.length < 10) throw new Error('axe checked nothing'); return r.violations })")
	for _, violation := range found {
		b.t.Errorf("%s: %s: %s\n%+v", what, violation.ID, violation.Help, violation.Nodes)
	}
}

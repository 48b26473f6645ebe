package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// redWithin is how soon the page shows that a backend was killed, in a browser that does something a second after it was
// told to. One that is held up, since the machine is busy with other tests, may take as many times longer as a timer and
// a request of the same page do at that moment.
const redWithin = 3 * time.Second

// victims are the backends that are killed one after the other until one is shown in time. The last one's name is none
// that a page ought to take for HTML.
var victims = []string{"victim-1", "victim-2", "<img/src=x>"}

// startEmulated runs a backend with a GPU's timing and returns its address.
func startEmulated(t *testing.T, class string) (string, *process) {
	t.Helper()
	address := "127.0.0.1:" + freePort(t)
	p := start(t, binary(t, "whisper-backend"), "--engine", "emulator", "--emulate-class", class, "--emulate-model", "large-v3", "--listen", address)
	p.ready(t, "http://"+address+"/health")
	return address, p
}

// statusProxy is a proxy with the status page on its admin endpoint and on a site.
type statusProxy struct{ site, admin string }

func startStatusProxy(t *testing.T, pool string) statusProxy {
	t.Helper()
	s := statusProxy{"http://127.0.0.1:" + freePort(t), "localhost:" + freePort(t)}
	config := filepath.Join(t.TempDir(), "Caddyfile")
	// The empty origin is that of an address that is typed into a browser.
	text := fmt.Sprintf("{\n\tadmin %s {\n\t\torigins %[1]s \"\"\n\t}\n\tlog {\n\t\tlevel WARN\n\t}\n}\n%s {\n\twhisper_pool_status\n\twhisper_pool {\n%s\n\t}\n}\n", s.admin, s.site, pool)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, binary(t, "whisperpool"), "run", "--config", config)
	p.ready(t, s.site+"/health?pool")
	return s
}

// states are those of the backends, by name, and how many jobs run on each.
func (s statusProxy) states(t *testing.T) (states map[string]string, running map[string]int) {
	t.Helper()
	states, running, err := s.ask()
	if err != nil {
		t.Fatal(err)
	}
	return states, running
}

func (s statusProxy) ask() (states map[string]string, running map[string]int, err error) {
	resp, err := http.Get("http://" + s.admin + "/whisper_pool/pools")
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	var told struct {
		Pools []struct {
			Backends []struct {
				ID, State string
				Running   int
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&told); err != nil {
		return nil, nil, err
	}
	states, running = map[string]string{}, map[string]int{}
	for _, b := range told.Pools[0].Backends {
		states[b.ID], running[b.ID] = b.State, b.Running
	}
	return states, running, nil
}

// out waits until the proxy tells that a backend is not up, and sends when that was.
func (s statusProxy) out(name string) <-chan time.Time {
	known := make(chan time.Time, 1)
	go func() {
		defer close(known)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(pageMax); time.Now().Before(end); <-tick.C {
			if states, _, err := s.ask(); err == nil && states[name] != "up" {
				known <- time.Now()
				return
			}
		}
	}()
	return known
}

// startLoad has clients ask again and again until the test ends; all of them are to be served.
func startLoad(t *testing.T, url string, clients int) {
	t.Helper()
	file := jfk(t).path
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if status, _, body, err := ask(ctx, url+transcriptions, file, "model=large-v3"); ctx.Err() == nil && (err != nil || status != http.StatusOK) {
					t.Errorf("status %d, %v: %s", status, err, body)
				}
			}
		})
	}
	t.Cleanup(func() {
		stop()
		all.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
}

// card is a backend on the page, as an expression of JavaScript.
func card(name string) string {
	return fmt.Sprintf("[...document.querySelectorAll('.backends > li')].find(e => e.querySelector('h4').textContent === %q)", name)
}

// TestStatusPageInABrowser clicks through the status page of a pool under load: numbers move, drain works by keyboard, a
// killed backend turns red, axe finds nothing, in the dark and on a phone either, and the console is silent. A web page
// of elsewhere drains nothing. The page on a site is read-only and tells no addresses.
func TestStatusPageInABrowser(t *testing.T) {
	real(t)
	var pool strings.Builder
	processes := map[string]*process{}
	for i, class := range []string{"H100", "A10G", "T4", "T4", "T4"} {
		address, p := startEmulated(t, class)
		name := append([]string{"h100", "spare"}, victims...)[i]
		fmt.Fprintf(&pool, "backend %s %s {\nname %s\n}\n", address, class, name)
		processes[name] = p
	}
	unnamed, _ := startEmulated(t, "T4")
	fmt.Fprintf(&pool, "backend %s T4\npolicy least_outstanding\n", unnamed) // so that all have something to do
	proxy := startStatusProxy(t, pool.String())
	startLoad(t, proxy.site, 24)
	b := startBrowser(t)

	b.look("light", 1280, 1000)
	b.open("http://" + proxy.admin + "/whisper_pool/")
	b.until("all backends are shown", "document.querySelectorAll('.backends > .good').length === 6")
	if n := eval[int](b, "document.querySelectorAll('img').length"); n != 0 {
		t.Error("the name of a backend is taken for HTML")
	}
	numbersMove(b)
	drainByKeyboard(b, proxy)
	for _, device := range []struct {
		name, scheme  string
		width, height int64
	}{{"desktop", "light", 1280, 1000}, {"desktop-dark", "dark", 1280, 1000}, {"phone", "light", 390, 844}, {"phone-dark", "dark", 390, 844}} {
		b.look(device.scheme, device.width, device.height)
		b.accessible(device.name)
		if wide := eval[int64](b, "document.documentElement.scrollWidth"); wide > device.width {
			t.Errorf("%s: the page is %d pixels wide", device.name, wide)
		}
	}
	b.look("dark", 1280, 1000)
	killedTurnsRed(b, proxy, processes)
	b.accessible("with a backend that is down")
	top(t, proxy)
	b.keep("status-desktop-dark")
	b.look("light", 1280, 1540) // all of it
	b.keep("status-desktop-light")
	b.look("light", 390, 844)
	b.keep("status-phone")
	b.clean("http://" + proxy.admin)

	drainsFromElsewhere(b, proxy)
	b.forget() // the browser says there that it was refused

	b.open(proxy.site + "/whisper_pool/")
	b.until("the site shows the backends", "document.querySelectorAll('.backends > li').length === 6")
	b.accessible("on a site")
	if text := eval[string](b, "document.body.outerHTML"); strings.Contains(text, "127.0.0.1") || !strings.Contains(text, "backend 6") {
		t.Errorf("the site tells addresses:\n%s", text)
	}
	if n := eval[int](b, "document.querySelectorAll('button').length"); n != 0 {
		t.Errorf("the site has %d buttons", n)
	}
	b.clean(proxy.site)
}

func numbersMove(b *browser) {
	b.t.Helper()
	b.until("jobs run, wait, and were placed", "document.querySelector('.slots .busy') && document.querySelectorAll('tbody').length === 2 && [...document.querySelectorAll('tbody')].every(e => e.rows.length > 0)")
	served := func(name string) string {
		return "Number(/served ([\\d,]+)/.exec(" + card(name) + ".textContent)[1].replace(',', ''))"
	}
	before := eval[int](b, served("h100"))
	b.until("more is served", fmt.Sprintf("%s > %d", served("h100"), before))
	bar := card("h100") + ".querySelector('.busy i')"
	b.until("a job is well under way", bar+" && parseInt("+bar+".style.width) > 30")
	b.until("a placement has its reason in words", "document.querySelector('td.words').textContent.length > 10")
	if !eval[bool](b, "fetch(document.querySelector('td.request a').href).then(r => r.ok)") {
		b.t.Error("a placement's request is not explained")
	}
	b.until("a curve is drawn", "document.querySelectorAll('polyline')[0].points.length > 1")
}

// drainByKeyboard goes to a backend's button with the tabulator, drains it and takes that back.
func drainByKeyboard(b *browser, proxy statusProxy) {
	b.t.Helper()
	const button = "document.activeElement.getAttribute('aria-label')"
	for presses := 0; eval[string](b, button+" || ''") != "Drain spare"; presses++ {
		if presses > 100 {
			b.t.Fatal("the tabulator does not get to the button")
		}
		do(b, "a key", chromedp.KeyEvent("\t"))
	}
	do(b, "a key", chromedp.KeyEvent("\r"))
	b.until("it is drained", card("spare")+".querySelector('.state').textContent === 'drained'")
	b.until("and has no job any more", "!"+card("spare")+".querySelector('.busy')")
	if states, running := proxy.states(b.t); states["spare"] != "drained" || running["spare"] != 0 {
		b.t.Errorf("the page shows a drained backend, and it is %s with %d jobs", states["spare"], running["spare"])
	}
	b.until("the button has the focus still", button+" === 'Undrain spare'")
	do(b, "a key", chromedp.KeyEvent(" "))
	b.until("it is used again", card("spare")+".querySelector('.busy')")
}

// killedTurnsRed kills backends that work, until one is shown red in time.
func killedTurnsRed(b *browser, proxy statusProxy, processes map[string]*process) {
	b.t.Helper()
	for _, name := range victims {
		b.until(name+" works", card(name)+".querySelector('.busy')")
		eval[bool](b, "window.cycle = 0, window.begun = performance.now(), setTimeout(() => fetch('pools').then(() => cycle = performance.now() - begun), 1000), true")
		killed := time.Now()
		if err := processes[name].cmd.Process.Signal(syscall.SIGKILL); err != nil {
			b.t.Fatal(err)
		}
		known := proxy.out(name)
		red := b.until(name+" is red", card(name)+".className === 'bad' && (([r, g, b]) => r > 1.5 * Math.max(g, b))(getComputedStyle("+card(name)+").borderLeftColor.match(/\\d+/g).map(Number))")
		if states, _ := proxy.states(b.t); states[name] == "up" {
			b.t.Errorf("%s is shown red and up", name)
		}
		b.until("the timer is over", "cycle > 0")
		cycle := eval[float64](b, "cycle / 1000")
		b.t.Logf("%s was red %v after it was killed, and known to be out after %v; a second and a request took %.1f s", name, red.Sub(killed), (<-known).Sub(killed), cycle)
		if red.Sub(killed).Seconds() <= redWithin.Seconds()*max(1, cycle) {
			return
		}
	}
	b.t.Errorf("none of %d killed backends was red within %v", len(victims), redWithin)
}

// top is the same in a terminal, or here in none.
func top(t *testing.T, proxy statusProxy) {
	t.Helper()
	out, err := exec.Command(binary(t, "whisperpool"), "top", "--address", proxy.admin).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"default  least_outstanding", "h100", "victim-1", "large-v3", "it had the least to do"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("whisperpool top: no %q in\n%s", want, out)
		}
	}
}

// drainsFromElsewhere opens a web page of another origin that does what it can to drain a backend.
func drainsFromElsewhere(b *browser, proxy statusProxy) {
	b.t.Helper()
	target := "http://" + proxy.admin + "/whisper_pool/pools/default/backends/spare/drain"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/silent" {
			w.Header().Set("Referrer-Policy", "no-referrer")
		}
		_, _ = io.WriteString(w, `<form method="post" action="`+target+`"></form><iframe name="frame"></iframe>`)
	}))
	defer elsewhere.Close()
	for _, page := range []string{"/", "/silent"} {
		b.open(elsewhere.URL + page)
		for _, mode := range []string{"cors", "no-cors"} {
			eval[bool](b, fmt.Sprintf("fetch(%q, {method: 'POST', mode: %q}).then(r => r.ok, () => false)", target, mode))
		}
		eval[bool](b, "new Promise(done => { const f = document.querySelector('iframe'), form = document.forms[0]; form.target = 'frame'; f.onload = () => done(true); form.submit() })")
	}
	if states, _ := proxy.states(b.t); states["spare"] != "up" {
		b.t.Errorf("a page of another origin drained a backend: it is %s", states["spare"])
	}
}

// keep writes a picture of the page into the folder that the environment names, for the documentation.
func (b *browser) keep(name string) {
	folder := os.Getenv("WHISPERPOOL_SCREENSHOTS")
	if folder == "" {
		return
	}
	eval[bool](b, "document.activeElement.blur(), scrollTo(0, 0), true")
	if err := os.WriteFile(filepath.Join(folder, name+".png"), do(b, "a picture", chromedp.CaptureScreenshot()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"golang.org/x/term"
)

func init() {
	options := &topOptions{}
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "top",
		Usage: "[--address <admin address>] [--once]",
		Short: "Shows the pools of a running proxy in the terminal",
		Long:  topHelp,
		Flags: options.flags(),
		Func: func(caddycmd.Flags) (int, error) {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if err := options.run(ctx, os.Stdin, os.Stdout); err != nil {
				return 1, err
			}
			return 0, nil
		},
	})
}

const topHelp = `
Shows each second what the status page shows: the backends with the jobs that run there, the queue with when each job is
expected to start, and the last placements. It asks the admin endpoint of a proxy that runs. q or Ctrl-C ends it.

A slot is one character: a dot is idle, a bar grows until the job is done as predicted, and an exclamation mark runs
longer than that.

  --address A    the admin endpoint: host:port, or unix//path/to/socket (default localhost:2019)
  --once         print once and end, which is also what happens when the output is no terminal

The environment variable NO_COLOR turns colours off.
`

type topOptions struct {
	address string
	once    bool
}

func (o *topOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("top", flag.ExitOnError)
	fs.StringVar(&o.address, "address", "", "The admin endpoint, "+caddy.DefaultAdminListen+" if not given")
	fs.BoolVar(&o.once, "once", false, "Print once and end")
	return fs
}

// topEvery is how often the proxy is asked, topPatience how long it may take to answer.
const (
	topEvery    = time.Second
	topPatience = 10 * time.Second
)

func (o *topOptions) run(ctx context.Context, in, out *os.File) error {
	address := o.address
	if address == "" {
		address = caddy.DefaultAdminListen
	}
	source, err := newStatusSource(address)
	if err != nil {
		return err
	}
	defer source.client.CloseIdleConnections()
	if !o.once && term.IsTerminal(int(out.Fd())) { //nolint:gosec // descriptors are small
		return watchStatus(ctx, source, in, out)
	}
	status, err := source.ask(ctx)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	for _, line := range drawStatus(status, paint(colours(out))) {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// colours says whether what is written there may have colours.
func colours(out *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(out.Fd())) //nolint:gosec // descriptors are small
}

// statusSource is the admin endpoint.
type statusSource struct {
	address string
	url     string
	origin  string
	client  *http.Client
}

func newStatusSource(address string) (*statusSource, error) {
	parsed, err := caddy.ParseNetworkAddress(address)
	if err != nil || parsed.PortRangeSize() > 1 || parsed.IsFdNetwork() {
		return nil, fmt.Errorf("--address %s is no admin endpoint: give host:port, or unix//path/to/socket", address)
	}
	s := &statusSource{address: address, origin: "http://" + parsed.JoinHostPort(0)}
	target := parsed.JoinHostPort(0)
	if parsed.IsUnixNetwork() {
		target, _, _ = strings.Cut(parsed.Host, "|") // the socket's permissions may follow
		s.origin = "http://127.0.0.1"
	}
	s.url = s.origin + "/whisper_pool/pools"
	s.client = &http.Client{Timeout: topPatience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, parsed.Network, target)
		},
	}}
	return s, nil
}

// ask gets the status.
func (s *statusSource) ask(ctx context.Context) (topStatus, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return topStatus{}, err
	}
	req.Header.Set("Origin", s.origin) // which enforce_origin asks for
	resp, err := s.client.Do(req)
	if err != nil {
		return topStatus{}, fmt.Errorf("no proxy answers at %s (%w); start one, or say with --address where its admin endpoint is", s.address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return topStatus{}, fmt.Errorf("%s answers with status %d and not with pools, is it whisperpool's? %s", s.address, resp.StatusCode, strings.TrimSpace(string(text)))
	}
	var status topStatus
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return topStatus{}, fmt.Errorf("%s answers with something else than pools: %w", s.address, err)
	}
	return status, nil
}

// Of the terminal: another screen without a cursor, its beginning, and the end of what is drawn.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	homeScreen  = "\x1b[H"
	clearLine   = "\x1b[K\r\n"
	clearBelow  = "\x1b[J"
)

// watchStatus draws until q or Ctrl-C is pressed, or ctx ends.
func watchStatus(ctx context.Context, source *statusSource, in, out *os.File) error {
	ctx, quit := context.WithCancel(ctx)
	defer quit()
	if fd := int(in.Fd()); term.IsTerminal(fd) { //nolint:gosec // descriptors are small
		before, err := term.MakeRaw(fd)
		if err != nil {
			return err
		}
		defer func() { _ = term.Restore(fd, before) }()
		go quitOnKey(in, quit)
	}
	if _, err := io.WriteString(out, enterScreen); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(out, leaveScreen) }()
	ticker := time.NewTicker(topEvery)
	defer ticker.Stop()
	var lines []string
	pen := paint(colours(out))
	for {
		status, err := source.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			lines = drawStatus(status, pen)
		case len(lines) == 0:
			return err
		default: // it may be restarting
			lines[0] = pen.bad("no answer: " + err.Error())
		}
		width, height, err := term.GetSize(int(out.Fd())) //nolint:gosec // descriptors are small
		if err != nil || width == 0 || height == 0 {      // it does not know
			width, height = 80, 24
		}
		if _, err := io.WriteString(out, homeScreen+fitLines(lines, width, height)+clearBelow); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// quitOnKey waits for q, or what a terminal that is raw sends for Ctrl-C, Ctrl-D and Escape.
func quitOnKey(in io.Reader, quit func()) {
	key := make([]byte, 1)
	for {
		n, err := in.Read(key)
		if n == 1 && strings.ContainsRune("qQ\x03\x04\x1b", rune(key[0])) || err != nil && !errors.Is(err, io.ErrNoProgress) {
			quit()
			return
		}
	}
}

// fitLines cuts lines to a terminal's size. Escape sequences take no room.
func fitLines(lines []string, width, height int) string {
	var out strings.Builder
	for i, line := range lines {
		if i == height-1 && len(lines) > height {
			fmt.Fprintf(&out, "... %d lines more\x1b[K", len(lines)-i)
			break
		}
		out.WriteString(cut(line, width))
		if i < height-1 {
			out.WriteString(clearLine)
		}
	}
	return out.String()
}

func cut(line string, width int) string {
	room, escape := width, false
	for i, r := range line {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		case room == 0:
			return line[:i] + "\x1b[0m"
		default:
			room--
		}
	}
	return line
}

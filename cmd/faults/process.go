package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	readyWithin = 60 * time.Second // for a program to start, on a busy machine
	stopWithin  = 10 * time.Second // for a program to end by itself when it is told to
)

// process is a program that was started.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// start runs a program in a folder of its own, where its log is, and what it writes.
func (e *env) start(name, path string, args ...string) (*process, error) {
	dir := filepath.Join(e.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{name: name, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(path, args...) //nolint:noctx // close ends them, in order
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "OMP_WAIT_POLICY=passive"}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	e.mu.Lock()
	e.processes = append(e.processes, p)
	e.mu.Unlock()
	return p, nil
}

// signal sends one; the process may have ended.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// stop ends it, by force when it does not end by itself.
func (p *process) stop() {
	p.signal(syscall.SIGCONT) // else the next one waits
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopWithin):
		p.signal(syscall.SIGKILL)
		<-p.ended
	}
}

// kill ends it with no chance to do anything.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// ready waits until url answers 200; the error has the end of the program's log.
func (p *process) ready(ctx context.Context, url string) error {
	within, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		if _, err := get(within, url); err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at its start: %s", p.name, p.lastWords())
		case <-within.Done():
			return fmt.Errorf("%s does not answer at %s: %s", p.name, url, p.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) text() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (p *process) lastWords() string {
	const most = 600
	text := p.text()
	return strings.TrimSpace(text[max(0, len(text)-most):])
}

// files is how many files and sockets a process has open, -1 where the system does not tell.
func (p *process) files() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return -1
	}
	return len(entries)
}

// memory is what a process has resident at present, in bytes; -1 where the system does not tell.
func (p *process) memory() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return -1
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return -1
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return -1
	}
	return pages * int64(os.Getpagesize())
}

var asking = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get is the body of a 200 answer.
func get(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := asking.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, response.Status, oneLine(string(body)))
	}
	return body, nil
}

// Ports are given away from below the range that systems take for outgoing connections, where one that
// is closed for a while could be taken before it is opened again.
const (
	firstPort = 21000
	lastPort  = 31999
	// portsApart is more than a run takes.
	portsApart = 1499
)

var given struct {
	mu   sync.Mutex
	next int
}

// freePort is a port of the loopback interface that nobody listens on and that this process has not
// given away before.
func freePort() (int, error) {
	given.mu.Lock()
	defer given.mu.Unlock()
	if given.next == 0 {
		given.next = firstPort + os.Getpid()*portsApart%(lastPort-firstPort) // two that run at once are far from each other
	}
	for range lastPort - firstPort {
		port := given.next
		if given.next++; given.next > lastPort {
			given.next = firstPort
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) //nolint:noctx // no name is looked up
		if err == nil {
			l.Close()
			return port, nil
		}
	}
	return 0, errors.New("no port is free")
}

// find is the path of a program: on PATH, or where Debian puts servers.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path := filepath.Join("/usr/sbin", name); isProgram(path) {
		return path, nil
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

package stage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	readyWithin = 30 * time.Second // for a program to start
	stopWithin  = 10 * time.Second // for a program to end by itself when it is told to
)

// Processes are the programs that were started, to be stopped in the opposite order. Each works in a
// folder of its own below Dir, where its log is.
type Processes struct {
	Dir string
	Env []string // besides the little that every program gets
	all []*Process
}

// Process is one of them.
type Process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}

	// Within is how long it has to be ready. 0: half a minute.
	Within time.Duration
}

// Start runs a program. Its folders for data and configuration are its own, so that nothing is found
// of other runs.
func (ps *Processes) Start(name, path string, args ...string) (*Process, error) {
	dir := filepath.Join(ps.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Process{name: name, log: log.Name(), ended: make(chan struct{})}
	p.cmd = exec.Command(path, args...) //nolint:noctx // Stop ends them, in order
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	p.cmd.Env = append(p.cmd.Env, ps.Env...)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in its log
		close(p.ended)
	}()
	ps.all = append(ps.all, p)
	return p, nil
}

// Stop ends all of them, the last first, and waits until they have.
func (ps *Processes) Stop() {
	for i := len(ps.all) - 1; i >= 0; i-- {
		ps.all[i].Stop()
	}
	ps.all = nil
}

// Stop ends one, and waits until it has. It may have ended already.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopWithin):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// Ready waits until url answers 200; the error has the end of the program's log.
func (p *Process) Ready(ctx context.Context, url string) error {
	within, cancel := context.WithTimeout(ctx, cmp.Or(p.Within, readyWithin))
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := Get(within, url); err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at its start: %s", p.name, p.lastWords())
		case <-within.Done():
			return fmt.Errorf("%s does not answer at %s: %s", p.name, url, p.lastWords())
		case <-ticker.C:
		}
	}
}

// Pid is its id, by which [FamilySeconds] and /proc know it.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) lastWords() string {
	const most = 600
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(string(text))
}

var asking = &http.Client{Timeout: 5 * time.Second}

// Get is the body of a 200 answer.
func Get(ctx context.Context, url string) ([]byte, error) {
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
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return body, nil
}

// FreePort is a port of the loopback interface that nobody listened on a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // no name is looked up
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Find is the path of a program: on PATH, or where Debian puts servers.
func Find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	if path := filepath.Join("/usr/sbin", name); IsProgram(path) {
		return path, nil
	}
	return "", fmt.Errorf("%s is not installed", name)
}

// IsProgram tells whether a file can be run.
func IsProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Version is the first line that a program prints about itself.
func Version(path string, args ...string) string {
	text, err := exec.Command(path, args...).CombinedOutput() //nolint:noctx // it ends at once
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

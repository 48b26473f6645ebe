// Command whisper-backend serves whisper models on one GPU over HTTP; see --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/whisperpool/whisperpool/backend"
	"github.com/whisperpool/whisperpool/backend/calibrate"
	"github.com/whisperpool/whisperpool/backend/convert"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	waitPassively()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program until ctx ends; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "convert" {
		return convert.Command(args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "calibrate" {
		return calibrate.Command(ctx, args[1:], stdout, stderr)
	}
	o, err := parse(args)
	switch {
	case errors.Is(err, errHelp):
		say(stdout, "%s", help())
		return exitOK
	case err != nil:
		say(stderr, "whisper-backend: %v; see whisper-backend --help\n", err)
		return exitUsage
	case o.version:
		say(stdout, "whisper-backend %s\n", programVersion())
		return exitOK
	}
	if err := serve(ctx, o, stderr); err != nil {
		say(stderr, "whisper-backend: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// say writes for a person; there is nobody to tell when that fails.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// serve listens at once and loads the model behind the open port, so that whoever watches the
// server can tell loading from dead.
func serve(ctx context.Context, o *options, stderr io.Writer) error {
	log := o.logger(stderr)
	cfg, err := o.serverConfig(log)
	if err != nil {
		return err
	}
	if err := o.library(&cfg, log); err != nil {
		return err
	}
	if o.ffmpeg == "auto" && cfg.FFmpeg == "" {
		log.Info("no ffmpeg found: MP4, M4A and AAC are refused")
	}
	cfg.Ready = func() { notify(ctx, "READY=1", log) }
	server, err := backend.New(cfg, nil)
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", o.listen, err)
	}
	log.Info("listening", "address", ln.Addr().String(), "version", cfg.Version)
	if o.keyFile == "" && !loopback(ln.Addr()) {
		log.Warn("everybody who reaches this address can use the server: give --api-key-file, or let a firewall see to it", "address", ln.Addr().String())
	}
	defer rereadKeys(server)()
	told := make(chan struct{})
	unlessStopped := context.AfterFunc(ctx, func() {
		defer close(told)
		notify(context.WithoutCancel(ctx), "STOPPING=1", log)
	})
	defer func() {
		if !unlessStopped() {
			<-told // a server without work stops sooner than systemd is told
		}
	}()
	return server.Serve(ctx, ln, nil)
}

// loopback tells whether only this machine can reach an address.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// rereadKeys has the server read its API keys again at each SIGHUP, until the function that it
// returns is called. A server without keys ignores the signal, which would end it otherwise.
func rereadKeys(server *backend.Server) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangup:
				server.ReloadKeys()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(done)
	}
}

package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
)

// notify tells systemd how the service is ("READY=1", "STOPPING=1") where a unit of Type=notify
// started it; elsewhere it does nothing.
func notify(ctx context.Context, state string, log *slog.Logger) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:] // a name that is in no folder
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", path)
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		log.Warn("cannot tell systemd how the service is", "state", state, "error", err)
	}
}

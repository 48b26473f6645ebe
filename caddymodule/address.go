package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// address is where a backend is.
type address struct {
	base *url.URL
	// schemeGiven: http or https was written, so the transport has no say in it.
	schemeGiven bool
}

// parseAddress reads a backend's address: host:port, or a URL with scheme http or https. A path is
// a prefix of the backend's own paths.
func parseAddress(s string) (address, error) {
	if strings.ContainsAny(s, "{}") {
		return address{}, errors.New("placeholders are not expanded in an address; {$NAME} is, from the environment, when the Caddyfile is read")
	}
	given := strings.Contains(s, "://")
	text := s
	if !given {
		text = "http://" + s
	}
	u, err := url.Parse(text)
	if err != nil {
		// The parser's own message repeats the address, with the scheme that we put before it.
		if uerr := new(url.Error); errors.As(err, &uerr) {
			err = uerr.Err
		}
		return address{}, fmt.Errorf("not an address: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return address{}, fmt.Errorf("scheme %s is not supported; http and https are", u.Scheme)
	case u.Hostname() == "":
		return address{}, errors.New("no host; write host:port or http://host")
	case u.User != nil:
		return address{}, errors.New("user and password do not belong in an address; use header_up Authorization")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return address{}, errors.New("only scheme, host, port and path belong in an address")
	case strings.ContainsAny(u.Host, " \t*,"):
		return address{}, errors.New("not a host")
	}
	port := u.Port()
	if port == "" {
		if !given {
			return address{}, fmt.Errorf("no port; write %s:8000, or http://%s for port 80", s, s)
		}
		if strings.HasSuffix(u.Host, ":") {
			return address{}, errors.New("no port after the colon")
		}
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	} else if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return address{}, fmt.Errorf("port %s is not between 1 and 65535", port)
	}
	u.Host = net.JoinHostPort(strings.ToLower(u.Hostname()), port)
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return address{u, given}, nil
}

// key is the same for addresses that mean the same server: a trailing /v1 is how clients of OpenAI's
// API write a base, and makes no other one.
func (a address) key() string { return a.base.Host + strings.TrimSuffix(a.base.Path, "/v1") }

// withoutUser is an address as it was written, without user and password, for messages.
func withoutUser(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "", s
	} else {
		scheme += "://"
	}
	authority, _, _ := strings.Cut(rest, "/")
	return scheme + rest[strings.LastIndex(authority, "@")+1:]
}

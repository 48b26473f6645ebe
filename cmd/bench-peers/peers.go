package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// peer is a balancer that is compared.
type peer struct {
	Name    string
	Told    string // what an operator has to tell it of the cards, "" for nothing
	program string // that has it, one of programs
}

// The peers, ours first.
var peers = []peer{
	{ours, "", "whisperpool"},
	{"caddy least_conn", "", "caddy"},
	{"caddy round_robin", "", "caddy"},
	{"caddy random", "", "caddy"},
	{"haproxy leastconn", "", "haproxy"},
	{"haproxy leastconn, tuned", "weights, maxconn", "haproxy"},
	{"haproxy first, tuned", "order, maxconn", "haproxy"},
	{"nginx least_conn", "", "nginx"},
	{"traefik leasttime", "", "traefik"},
}

const ours = "whisperpool"

// program starts the peers of one kind, all in one process: each has a port of its own, by the
// order of its peers.
type program struct {
	files   func(backends []*backend, ports []int) map[string]string // what to write into its folder
	command string                                                   // "": whisperpool itself
	args    []string
	version []string // arguments that print it
	health  string   // a path that answers 200 when all is up, by any port
}

var programs = map[string]program{
	"whisperpool": {files: whisperpoolFiles, args: []string{"run", "--config", "Caddyfile"}, version: []string{"version"}, health: "/health?pool"},
	"caddy":       {files: caddyFiles, args: []string{"run", "--config", "Caddyfile"}, version: []string{"version"}, health: "/health"},
	"haproxy":     {files: haproxyFiles, command: "haproxy", args: []string{"-f", "haproxy.cfg"}, version: []string{"-v"}, health: "/health"},
	"nginx":       {files: nginxFiles, command: "nginx", args: []string{"-p", ".", "-c", "nginx.conf", "-e", "nginx.err"}, version: []string{"-v"}, health: "/health"},
	"traefik":     {files: traefikFiles, command: "traefik", args: []string{"--configFile=traefik.yml"}, version: []string{"version"}, health: "/health"},
}

// running is a peer that serves.
type running struct {
	peer
	URL     string
	Version string
}

// startPeers starts those of the chosen peers whose programs are there, in front of the backends.
// Of the others, skipped says why.
func startPeers(ctx context.Context, ps *processes, chosen []peer, own string, backends []*backend) (all []running, skipped []string, err error) {
	byProgram := map[string][]peer{}
	var order []string
	for _, p := range chosen {
		if byProgram[p.program] == nil {
			order = append(order, p.program)
		}
		byProgram[p.program] = append(byProgram[p.program], p)
	}
	for _, name := range order {
		path := own
		if command := programs[name].command; command != "" {
			if path, err = find(command); err != nil {
				skipped = append(skipped, fmt.Sprintf("%s: skipped, since %v", name, err))
				continue
			}
		}
		started, err := startProgram(ctx, ps, name, path, byProgram[name], backends)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, started...)
	}
	return all, skipped, nil
}

// startProgram starts a program with all of its peers, whichever are chosen, and returns those.
func startProgram(ctx context.Context, ps *processes, name, path string, chosen []peer, backends []*backend) ([]running, error) {
	prog := programs[name]
	var ports []int
	portOf := map[string]int{}
	for _, p := range peers {
		if p.program != name {
			continue
		}
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		ports, portOf[p.Name] = append(ports, port), port
	}
	dir := filepath.Join(ps.dir, name)
	for file, content := range prog.files(backends, ports) {
		target := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	process, err := ps.start(name, path, prog.args...)
	if err != nil {
		return nil, err
	}
	said := version(path, prog.version...)
	var all []running
	for _, p := range chosen {
		url := fmt.Sprintf("http://127.0.0.1:%d", portOf[p.Name])
		if err := process.ready(ctx, url+prog.health); err != nil {
			return nil, err
		}
		all = append(all, running{p, url, said})
	}
	return all, nil
}

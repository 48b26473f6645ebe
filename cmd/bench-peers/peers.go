package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/whisperpool/whisperpool/cmd/stage"
)

// peer is a balancer that is compared.
type peer struct {
	Name    string
	Told    string // what an operator has to tell it of the cards, "" for nothing
	program string // that has it, one of programs
	path    string // before the API's own, where a program has several peers at one port
}

// The peers, ours first.
var peers = []peer{
	{Name: ours, program: "whisperpool"},
	{Name: "caddy least_conn", program: "caddy"},
	{Name: "caddy round_robin", program: "caddy"},
	{Name: "caddy random", program: "caddy"},
	{Name: "haproxy leastconn", program: "haproxy"},
	{Name: "haproxy leastconn, tuned", Told: "weights, maxconn", program: "haproxy"},
	{Name: "haproxy first, tuned", Told: "order, maxconn", program: "haproxy"},
	{Name: "nginx least_conn", program: "nginx"},
	{Name: "traefik leasttime", program: "traefik"},
}

const ours = "whisperpool"

// program starts the peers of one kind, all in one process: each has a port of its own, by the
// order of its peers, or a path of its own at the first one's.
type program struct {
	files   func(backends []*backend, ports []int) map[string]string // what to write into its folder
	command string                                                   // "": whisperpool itself, or an interpreter that is told
	args    []string
	version []string      // arguments that print it
	health  string        // a path that answers 200 when all is up, by any port
	within  time.Duration // it has to be ready; 0: readyWithin
}

var programs = map[string]program{
	"whisperpool": {files: whisperpoolFiles, args: []string{"run", "--config", "Caddyfile"}, version: []string{"version"}, health: "/health?pool"},
	"caddy":       {files: caddyFiles, args: []string{"run", "--config", "Caddyfile"}, version: []string{"version"}, health: "/health"},
	"haproxy":     {files: haproxyFiles, command: "haproxy", args: []string{"-f", "haproxy.cfg"}, version: []string{"-v"}, health: "/health"},
	"nginx":       {files: nginxFiles, command: "nginx", args: []string{"-p", ".", "-c", "nginx.conf", "-e", "nginx.err"}, version: []string{"-v"}, health: "/health"},
	"traefik":     {files: traefikFiles, command: "traefik", args: []string{"--configFile=traefik.yml"}, version: []string{"version"}, health: "/health"},
	"ray":         {files: pythonFiles("ray_serve.py", rayServe, rayLimits), args: []string{"ray_serve.py"}, version: pythonVersion("ray"), health: "/health", within: slowStart},
	"skyserve":    {files: pythonFiles("skyserve.py", skyServe, nil), args: []string{"skyserve.py"}, version: pythonVersion("skypilot"), health: "/health", within: slowStart},
}

// running is a peer that serves.
type running struct {
	peer
	URL     string
	Version string
}

// startPeers starts those of the chosen peers whose programs are there, in front of the backends.
// Of the others, skipped says why. Paths are those of programs that are not to be looked for, "" where
// they could not be had.
func startPeers(ctx context.Context, ps *stage.Processes, chosen []peer, paths map[string]string, backends []*backend) (all []running, skipped []string, err error) {
	byProgram := map[string][]peer{}
	var order []string
	for _, p := range chosen {
		if byProgram[p.program] == nil {
			order = append(order, p.program)
		}
		byProgram[p.program] = append(byProgram[p.program], p)
	}
	for _, name := range order {
		path := paths[name]
		if command := programs[name].command; command != "" {
			path, err = stage.Find(command)
		} else if path == "" {
			err = fmt.Errorf("%s is not installed", name)
		}
		var started []running
		if err == nil {
			started, err = startProgram(ctx, ps, name, path, byProgram[name], backends)
		}
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case err != nil && path == paths["whisperpool"]: // without us there is nothing to compare
			return nil, nil, err
		case err != nil:
			skipped = append(skipped, fmt.Sprintf("%s: skipped, since %v", name, err))
		}
		all, err = append(all, started...), nil
	}
	return all, skipped, nil
}

// startProgram starts a program with all of its peers, whichever are chosen, and returns those.
func startProgram(ctx context.Context, ps *stage.Processes, name, path string, chosen []peer, backends []*backend) ([]running, error) {
	prog := programs[name]
	var ports []int
	portOf := map[string]int{}
	for _, p := range slices.Concat(peers, onRequest) {
		if p.program != name {
			continue
		}
		if p.path != "" && len(ports) > 0 {
			portOf[p.Name] = ports[0]
			continue
		}
		port, err := stage.FreePort()
		if err != nil {
			return nil, err
		}
		ports, portOf[p.Name] = append(ports, port), port
	}
	dir := filepath.Join(ps.Dir, name)
	for file, content := range prog.files(backends, ports) {
		target := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(target, []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	process, err := ps.Start(name, path, prog.args...)
	if err != nil {
		return nil, err
	}
	process.Within = prog.within
	said := stage.Version(path, prog.version...)
	var all []running
	for _, p := range chosen {
		url := fmt.Sprintf("http://127.0.0.1:%d%s", portOf[p.Name], p.path)
		if err := process.Ready(ctx, url+prog.health); err != nil {
			process.Stop()
			return nil, err
		}
		all = append(all, running{p, url, said})
	}
	return all, nil
}

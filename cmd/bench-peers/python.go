package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Balancers that are written in Python are compared on request only: a request costs them so much that
// time has to be slowed down for them, or it is Python that is measured and not where they place jobs.

//go:embed ray_serve.py
var rayServe string

//go:embed skyserve.py
var skyServe string

// onRequest are the peers that are asked for by the name of their program.
var onRequest = []peer{
	{Name: "ray serve, 25 ongoing", Told: "max_ongoing_requests", program: "ray", path: "/max-25"},
	{Name: "ray serve, 1 ongoing", Told: "max_ongoing_requests", program: "ray", path: "/max-1"},
	{Name: "skyserve instance-aware", Told: "rates", program: "skyserve"},
}

// rayLimits are max_ongoing_requests by path: that of the old deployment's first shape and of its second.
var rayLimits = map[string]int{"/max-25": 25, "/max-1": 1}

// pythonVersion are the arguments that have Python print a package's version.
func pythonVersion(name string) []string {
	return []string{"-c", fmt.Sprintf("from importlib.metadata import version; print('%s', version('%[1]s'))", name)}
}

// pythonPool is pool.json, as both of the Python files read it.
type pythonPool struct {
	Port     int             `json:"port"`
	Backends []pythonBackend `json:"backends"`
	Limits   map[string]int  `json:"limits,omitempty"` // Ray Serve's
}

type pythonBackend struct {
	Address string  `json:"address"`
	Class   string  `json:"class"`
	Rate    float64 `json:"rate"` // jobs a second; only what they are to each other counts
}

// pythonFiles are a source and the pool's description.
func pythonFiles(name, source string, limits map[string]int) func(backends []*backend, ports []int) map[string]string {
	return func(backends []*backend, ports []int) map[string]string {
		pool := pythonPool{Port: ports[0], Limits: limits}
		for _, b := range backends {
			pool.Backends = append(pool.Backends, pythonBackend{b.address, b.class, b.speed})
		}
		encoded, _ := json.MarshalIndent(pool, "", "  ") // strings and finite numbers
		return map[string]string{name: source, "pool.json": string(encoded) + "\n"}
	}
}

// interpreter is a Python that has a balancer.
type interpreter struct {
	program string // one of those that are there on request
	path    string // "" when it could not be had, which the comparison then says
}

// requestable are the names that may be asked for.
func requestable() []string {
	var names []string
	for _, p := range onRequest {
		if !slices.Contains(names, p.program) {
			names = append(names, p.program)
		}
	}
	return names
}

// parseInterpreters reads NAME=PATH,NAME=PATH.
func parseInterpreters(text string) ([]interpreter, error) {
	var all []interpreter
	for pair := range strings.SplitSeq(text, ",") {
		name, path, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !slices.Contains(requestable(), name) {
			return nil, fmt.Errorf("-with: there is no %q to compare with on request; there are %s", name, strings.Join(requestable(), ", "))
		}
		if slices.ContainsFunc(all, func(i interpreter) bool { return i.program == name }) {
			return nil, fmt.Errorf("-with: %s is there twice", name)
		}
		all = append(all, interpreter{name, path})
	}
	return all, nil
}

// memos are recordings without the longest ones, which would take minutes on a slow card when time is
// slowed down.
const memos = "lognormal:12,1.2,120"

// slowedDown is the plan for those that are asked for, beside us and the rules that an operator would
// set by hand. Four times as slow as real cards, since a request costs Ray Serve 20 to 50 ms of a
// processor. It takes a quarter of an hour, a short one five minutes.
func slowedDown(asked []interpreter, short bool) plan {
	wide := pools[0]
	p := plan{repeats: 1, speedUp: 0.25, workloads: []workload{
		{Pool: wide, Lengths: equalClips, Burst: 192},
		{Pool: wide, Lengths: memos, Clients: 16, Jobs: 128},
	}}
	if short {
		p.repeats, p.speedUp = 1, 1
		p.workloads = []workload{
			{Pool: wide, Lengths: equalClips, Burst: 64},
			{Pool: wide, Lengths: memos, Clients: 16, Jobs: 48},
		}
	}
	for _, one := range peers {
		if one.Name == ours || strings.HasSuffix(one.Name, ", tuned") {
			p.peers = append(p.peers, one)
		}
	}
	for _, one := range onRequest {
		if slices.ContainsFunc(asked, func(i interpreter) bool { return i.program == one.program }) {
			p.peers = append(p.peers, one)
		}
	}
	return p
}

// slowStart is for Ray, which starts a dozen processes.
const slowStart = 3 * time.Minute

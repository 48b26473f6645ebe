# whisperpool: `make` prints what there is. Nothing here needs more than Go, make and bash: what is
# missing besides is installed by scripts/ (apt), and what is slow to build or fetch is kept
# outside the tree, under $(CACHE).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(or $(WHISPERPOOL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/whisperpool)
export WHISPERPOOL_CACHE := $(CACHE)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
# Caddy's own build tags for leaving out databases that nobody needs here.
CADDY_TAGS := nobadger,nomysql,nopgx
# What cgo needs to know; in two steps, since eval alone would hide a failure.
LIBWHISPER_ENV = env="$$(scripts/libwhisper.sh --env)"; eval "$$env"
TEST_ENV = env="$$(scripts/test-env.sh)"; eval "$$env"
RACE_PACKAGES := ./scheduler/... ./policies/... ./dispatcher/... ./caddymodule/...

##@ Using
.PHONY: run
run: build recordings ## Serve real recordings through a pool of three backends on this machine (ONCE=1: then stop)
	@scripts/run.sh "$$(scripts/model.sh base)" "$$(scripts/recordings.sh)"

.PHONY: build
build: whisperpool whisper-backend ## Build bin/whisperpool (the proxy) and bin/whisper-backend

.PHONY: whisperpool
whisperpool: ## Build the proxy alone: no C compiler needed
	@echo "building bin/whisperpool" >&2
	@CGO_ENABLED=0 go build -trimpath -tags $(CADDY_TAGS) -ldflags '$(LDFLAGS)' -o bin/whisperpool ./cmd/whisperpool

.PHONY: whisper-backend
whisper-backend: libwhisper ## Build the backend with whisper.cpp in it (CUDA=1: for NVIDIA cards)
	@echo "building bin/whisper-backend" >&2
	@$(LIBWHISPER_ENV); go build -trimpath -tags whispercpp -ldflags '$(LDFLAGS)' -o bin/whisper-backend ./cmd/whisper-backend

.PHONY: release
release: whisperpool ## Lay out dist/ for other machines, with code for every x86-64 processor (CUDA=1: and for NVIDIA cards)
	@scripts/release.sh '$(VERSION)'

##@ Getting
.PHONY: libwhisper
libwhisper: ## Build whisper.cpp as a library, once (CUDA=1: for NVIDIA cards)
	@scripts/libwhisper.sh >/dev/null

.PHONY: model
model: ## Get the models base and tiny.en, and Silero's that tells speech from silence (MODEL=base: that one alone)
	@for name in $(or $(MODEL),base tiny.en silero-v6.2.0); do scripts/model.sh "$$name" >/dev/null; done

.PHONY: recordings
recordings: ## Get recordings with known words, to try and test with
	@scripts/recordings.sh >/dev/null

.PHONY: test-tools
test-tools: ## Get what only the tests use: ffmpeg, a Chromium, axe and the official OpenAI clients
	@scripts/test-tools.sh >/dev/null

##@ Checking
.PHONY: test
test: build model recordings test-tools ## Everything, real whisper.cpp, real Caddy and real clients included
	@$(LIBWHISPER_ENV); $(TEST_ENV); \
		go vet -tags whispercpp,$(CADDY_TAGS) ./... && go test -race -tags whispercpp,$(CADDY_TAGS) -timeout 20m ./...

.PHONY: race
race: ## The proxy's rooms under the race detector, without whisper.cpp
	@go test -race $(RACE_PACKAGES)

.PHONY: unit
unit: ## Every test that needs neither whisper.cpp nor a model; seconds when cached
	@go test ./...

.PHONY: fuzz
fuzz: ## Every fuzz target for a minute each; findings stay as seeds (FUZZTIME=10s: shorter)
	@scripts/fuzz.sh

.PHONY: faults
faults: whisperpool ## Break backends behind a real proxy, and what clients saw (SHORT=1: under five minutes; PEERS=1: Caddy and HAProxy, too; RUN=REGEX)
	@PEERS="$(PEERS)" scripts/faults.sh $(if $(SHORT),-short) $(if $(RUN),-run '$(RUN)')

.PHONY: dashboards-check
dashboards-check: whisperpool ## Draw the Grafana dashboards from a real Prometheus, an emulated pool, load and a fault; fail on an empty panel (STAY=1: stay up then)
	@STAY="$(STAY)" scripts/dashboards-check.sh

.PHONY: dashboards
dashboards: ## Write dashboards/*.json again, after a change to dashboards/generate
	@go run ./dashboards/generate

.PHONY: conformance
conformance: build model recordings test-tools ## whisper-backend beside whisper.cpp's own server: the same requests, and each difference with its reason; all of what `make test` does in part
	@$(LIBWHISPER_ENV); $(TEST_ENV); export WHISPERPOOL_CONFORMANCE=whole; \
		go test -tags whispercpp -count 1 -timeout 3h -v -run '^(TestConformance|TestSameTextAsWhisperServer)$$' ./e2e

.PHONY: soak
soak: build model recordings test-tools ## whisper-backend under load: an hour-long recording, 200 clients at once, 50 that leave, models that are swapped, 500 mixed requests
	@$(LIBWHISPER_ENV); $(TEST_ENV); export WHISPERPOOL_SOAK=whole; \
		go test -tags whispercpp -count 1 -timeout 3h -v -run '^(TestSoak|TestMixedRequestsAnswerAsAlone)$$' ./e2e

.PHONY: lint
lint: ## golangci-lint, at the version of tools.mod (its first build takes minutes)
	@go tool -modfile=tools.mod golangci-lint run

.PHONY: fmt
fmt: ## Format the Go sources
	@gofmt -w $$(git ls-files '*.go')

.PHONY: ci
ci: ## What CI runs
	@bash .ci/run

##@ Measuring
.PHONY: bench-peers
bench-peers: whisperpool ## The same jobs through whisperpool and other balancers; an hour and a half (SHORT=1: two minutes; PEERS=ray,skyserve: with these)
	@PEERS='$(PEERS)' scripts/bench-peers.sh $(if $(SHORT),-short) placement

.PHONY: bench
bench: whisperpool ## What proxying, 10,000 queued uploads and deciding cost (SHORT=1: coarsely)
	@go test -run '^$$' -bench . -benchmem ./scheduler
	@scripts/bench-peers.sh $(if $(SHORT),-short) proxying memory

.PHONY: gpu-check
gpu-check: export CUDA = $(if $(DRY),0,1)
gpu-check: build model recordings ## On a machine with an NVIDIA GPU: tests, streams beside whisper-server, short clips, MPS slices (DRY=1: try the script on the CPU)
	@DRY='$(or $(DRY),0)' scripts/gpu-check.sh

.PHONY: bench-backend
bench-backend: whisper-backend model recordings ## whisper-backend's speed beside whisper-server's, on this machine's processors (SHORT=1: coarsely; MODEL=tiny.en: that one alone)
	@scripts/bench-backend.sh $(if $(SHORT),-short) $(if $(MODEL),-model $(MODEL)) streams

.PHONY: accuracy
accuracy: whisper-backend model recordings ## What short clips lose and gain with less context, on 1,000 distinct words; hours, goes on where it was stopped
	@scripts/bench-backend.sh $(if $(MODEL),-model $(MODEL)) accuracy

##@ Cleaning
.PHONY: clean
clean: ## Remove what was built in the tree; the cache stays
	@rm -rf bin run dist

.PHONY: help
help: ## Print this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nCache: %s\n' '$(CACHE)'

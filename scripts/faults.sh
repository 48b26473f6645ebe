#!/usr/bin/env bash
# Behind `make faults`: builds the backend with its emulated GPU, finds what is there of the real
# things, and hands its arguments on to cmd/faults. With PEERS=1 HAProxy is got from Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

out=run/faults
mkdir -p "$out"
args=()

# Real whisper.cpp and OpenAI's client take minutes to get; without them their lines say "skipped".
model=$cache/models/ggml-tiny.en.bin
recording=$cache/recordings/jfk.wav
if [ -x bin/whisper-backend ] && [ -f "$model" ] && [ -f "$recording" ]; then
    args+=(-real bin/whisper-backend -model "$model" -recording "$recording")
else
    say "without real whisper.cpp: make build model recordings gets it"
fi
for python in "$cache"/openai-*/bin/python; do
    if [ -x "$python" ]; then
        args+=(-python "$python")
        break
    fi
done
if [ -n "${PEERS:-}" ]; then
    (need haproxy haproxy) || say "without HAProxy, then"
    args+=(-peers)
fi

say "building the emulated backend"
CGO_ENABLED=0 go build -o "$out/whisper-backend" ./cmd/whisper-backend
go build -o "$out/faults" ./cmd/faults
exec "$out/faults" -whisper-backend "$out/whisper-backend" -out "$out" "${args[@]}" "$@"

#!/usr/bin/env bash
# Behind `make bench-backend` and `make accuracy`: gets the voices that read aloud, builds
# cmd/bench-backend and hands its arguments on. bin/whisper-backend, models and recordings must be there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

case " $* " in
    *" accuracy "*)
        need espeak-ng espeak-ng
        need flite flite
        ;;
esac
out=run/bench-backend
mkdir -p "$out"
go build -o "$out/bench-backend" ./cmd/bench-backend
exec "$out/bench-backend" -out "$out" -whisper-server "$(scripts/libwhisper.sh)/bin/whisper-server" \
    -models "$cache/models" -recordings "$(scripts/recordings.sh)" "$@"

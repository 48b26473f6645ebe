#!/usr/bin/env bash
# Behind `make bench-peers` and `make bench`: builds what is measured, gets the peers that Debian has,
# and hands its arguments on to cmd/bench-peers.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

PATH=$PATH:/usr/sbin # where servers are, also for those who are not root
out=run/bench
mkdir -p "$out"

# quiet_install keeps a package from starting its service, which would listen on every interface;
# what is measured is started here, on the loopback interface.
quiet_install() {
    local command=$1 package=$2 policy=/usr/sbin/policy-rc.d made=
    command -v "$command" >/dev/null && return
    if [ ! -e $policy ] && as_root true 2>/dev/null; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod +x $policy
        made=1
    fi
    (need "$command" "$package") || say "without $command, then"
    if [ -n "$made" ]; then as_root rm -f $policy; fi
}

case " $* " in
    *" placement "*)
        quiet_install haproxy haproxy
        quiet_install nginx nginx
        ;;
esac

say "building the emulated backend"
CGO_ENABLED=0 go build -o "$out/whisper-backend" ./cmd/whisper-backend
go build -o "$out/bench-peers" ./cmd/bench-peers
exec "$out/bench-peers" -whisper-backend "$out/whisper-backend" -out "$out" "$@"

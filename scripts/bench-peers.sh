#!/usr/bin/env bash
# Behind `make bench-peers` and `make bench`: builds what is measured, gets the peers that Debian has,
# and hands its arguments on to cmd/bench-peers. PEERS names those in Python that are to be compared
# with besides: ray, skyserve, or both with a comma.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

PATH=$PATH:/usr/sbin # where servers are, also for those who are not root
out=run/bench
mkdir -p "$out"

# Wrong names are refused before anything is built.
asked=()
case " $* " in
    *" placement "*) IFS=', ' read -r -a asked <<<"${PEERS:-}" ;;
esac
for name in "${asked[@]}"; do
    case $name in
        ray | skyserve) ;;
        *) die "PEERS: there is no $name to compare with on request; there are ray, skyserve" ;;
    esac
done

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

with=()
for name in "${asked[@]}"; do
    if venv=$(scripts/bench-peers-env.sh "$name"); then
        with+=("$name=$venv/bin/python")
    else
        say "without $name, then"
        with+=("$name=")
    fi
done
if [ ${#with[@]} -gt 0 ]; then
    set -- -with "$(IFS=,; echo "${with[*]}")" "$@"
fi
exec "$out/bench-peers" -whisper-backend "$out/whisper-backend" -out "$out" "$@"

#!/usr/bin/env bash
# The demonstration behind `make run`: three real whisper.cpp backends of unequal speed and the
# proxy in front of them, real recordings through it at once, then up until Ctrl-C.
# Usage: run.sh MODEL RECORDINGS. With ONCE=1 it stops after the transcripts.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

model=$1
recordings=$2
url=http://localhost:8080
logs=run
pids=()

need curl curl ca-certificates
mkdir -p "$logs"
results=$(mktemp -d)

stop() {
    trap - EXIT INT TERM
    # The proxy first, so that nobody is refused by a backend that is already gone.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$results"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# port_free PORT: nobody listens there.
port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

for port in 8080 2019 8101 8102 8103; do
    port_free "$port" || die "port $port is in use; stop what listens there and run this again"
done

# backend NAME PORT THREADS NICENESS: the same model on each; threads and niceness make the
# difference, and the class says truthfully that there is no GPU.
backend() {
    nice -n "$4" bin/whisper-backend --model "$model" --model-id base --listen "127.0.0.1:$2" \
        --slots 1 --threads "$3" --gpu off --gpu-class CPU >"$logs/$1.log" 2>&1 &
    pids+=($!)
}

# wait_for URL LOG WHAT: until it answers 200, or its process is gone.
wait_for() {
    local pid=${pids[-1]} tries=0
    until curl --silent --fail --output /dev/null --max-time 2 "$1"; do
        kill -0 "$pid" 2>/dev/null || {
            tail -n 5 "$2" >&2
            die "$3 did not start; its log is $2"
        }
        ((++tries < 600)) || die "$3 is not ready after a minute; its log is $2"
        sleep 0.1
    done
}

# The backends have more threads than there are cores: one that waits for the others must sleep
# rather than spin, or all of them take two to three times as long.
export OMP_WAIT_POLICY=passive
cores=$(nproc)
say "starting three backends on $cores cores:"
say "  fast    $cores threads"
say "  medium  1 thread"
say "  slow    1 thread at niceness 10"
backend fast 8101 "$cores" 0
backend medium 8102 1 0
backend slow 8103 1 10
for name_port in fast:8101 medium:8102 slow:8103; do
    wait_for "http://127.0.0.1:${name_port#*:}/health" "$logs/${name_port%:*}.log" "the backend ${name_port%:*}"
done

say "starting the proxy"
bin/whisperpool run --config Caddyfile >"$logs/proxy.log" 2>&1 &
pids+=($!)
wait_for "$url/health?pool" "$logs/proxy.log" "the proxy"

# transcribe FILE: one request; leaves what came back in $results.
transcribe() {
    local name
    name=$(basename "$1" .wav)
    curl --silent --show-error --max-time 240 -F "file=@$1" -F model=base -F response_format=text \
        --dump-header "$results/$name.head" --output "$results/$name.text" \
        --write-out '%{http_code} %{time_total}' "$url/v1/audio/transcriptions" >"$results/$name.curl" 2>&1 || true
    touch "$results/$name.done"
}

# header NAME FILE: a response header's value.
header() { tr -d '\r' <"$2" | awk -v name="$1:" 'tolower($1) == tolower(name) {print $2}'; }

files=("$recordings"/jfk.wav "$recordings"/librivox/*.wav)
say "transcribing ${#files[@]} recordings at once"
started=$SECONDS
workers=()
for file in "${files[@]}"; do
    transcribe "$file" &
    workers+=($!)
done
# shellcheck disable=SC2144 # the glob is counted, not tested
while done_count=$(find "$results" -name '*.done' | wc -l) && ((done_count < ${#files[@]})); do
    if [ -t 2 ]; then printf '\r  %d of %d after %d s' "$done_count" "${#files[@]}" $((SECONDS - started)) >&2; fi
    sleep 0.2
done
[ -t 2 ] && printf '\r\033[K' >&2
wait "${workers[@]}"

failed=0
printf '\n%-8s %8s %8s  %s\n' backend 'wait s' 'total s' transcript
for file in "${files[@]}"; do
    name=$(basename "$file" .wav)
    read -r status total <"$results/$name.curl" || true
    if [ "$status" != 200 ]; then
        failed=1
        printf '%-8s %8s %8s  %s: %s\n' - - - "$name failed with ${status:-nothing}" "$(head -c 300 "$results/$name.text" 2>/dev/null)"
        continue
    fi
    wait_ms=$(header X-Whisperpool-Queue-Ms "$results/$name.head")
    printf '%-8s %8s %8s  %s\n' "$(header X-Whisperpool-Backend "$results/$name.head")" \
        "$(awk -v ms="${wait_ms:-0}" 'BEGIN {printf "%.2f", ms / 1000}')" \
        "$(awk -v s="$total" 'BEGIN {printf "%.2f", s}')" "$(tr '\n' ' ' <"$results/$name.text")"
done
((failed == 0)) || die "not every recording was transcribed; the logs are in $logs/"
[ -z "${ONCE:-}" ] || exit 0

cat <<END

The pool is up; logs are in $logs/. Try:
  curl -F file=@${files[0]} -F model=base $url/v1/audio/transcriptions
  curl $url/v1/models
  bin/whisperpool top, or http://localhost:2019/whisper_pool/ in a browser
Ctrl-C stops it.
END
wait "${pids[@]}"

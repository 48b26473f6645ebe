#!/usr/bin/env bash
# What can only be found out where a GPU is; prints a table and leaves it in run/gpu-check/. Run it as
# `make gpu-check`, which builds with CUDA first. An hour on a T4.
#
#   MODEL=large-v3   the model; ggml-MODEL.bin in the cache's models/ (or its path)
#   STREAMS="1 2 4 8"
#   REQUESTS=40      a measurement
#   GPU=0            the card
#   PARTS="tests streams short slices"    some of them only
#   DRY=1            with processes on the CPU in place of the card: tries the script, measures nothing of worth
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

dry=${DRY:-0}
gpu=${GPU:-0}
streams=${STREAMS:-1 2 4 8}
requests=${REQUESTS:-40}
model=${MODEL:-large-v3}
parts=${PARTS:-tests streams short slices}
slices=(10 30 100) # percent of the card's multiprocessors
case $model in
*/*) ;;
*) model=$cache/models/ggml-$model.bin ;;
esac
out=run/gpu-check
table=$out/table.tsv
port=8300 # and those after it
pids=()
mps=

need curl curl ca-certificates
need jq jq

stop_all() {
    local i
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do # the proxy is the last that was started
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    pids=()
}

finish() {
    trap - EXIT INT TERM
    stop_all
    if [ -n "$mps" ]; then echo quit | nvidia-cuda-mps-control >/dev/null 2>&1 || true; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME URL COMMAND...: until URL answers 200.
start() {
    local name=$1 url=$2 tries=0
    shift 2
    "$@" >"$out/$name.log" 2>&1 &
    pids+=($!)
    until curl --silent --fail --output /dev/null --max-time 2 "$url"; do
        kill -0 "${pids[-1]}" 2>/dev/null || {
            tail -n 5 "$out/$name.log" >&2
            die "$name did not start; its log is $out/$name.log"
        }
        ((++tries < 1200)) || die "$name is not ready after two minutes; its log is $out/$name.log"
        sleep 0.1
    done
}

# backend NAME PORT FLAG...: ours, on the card; it must say so itself.
backend() {
    local name=$1 at=$2
    shift 2
    start "$name" "http://127.0.0.1:$at/health" "${slice[@]}" bin/whisper-backend --model "$model" --listen "127.0.0.1:$at" "${ours[@]}" "$@"
    if [ "$dry" = 0 ]; then
        grep -q 'running on a GPU' "$out/$name.log" || die "$name does not say that it runs on a GPU; its log is $out/$name.log"
    fi
}

# measure WHAT STREAMS URL FLAG...: a closed loop of so many clients, as a line of the table.
measure() {
    local what=$1 clients=$2 url=$3 count=$requests file
    shift 3
    if ((count < 3 * clients)); then count=$((3 * clients)); fi
    file=$out/$(tr -c 'a-z0-9\n' - <<<"$what-$clients").json
    say "measuring: $what, $clients at once"
    bin/whisperpool bench --url "$url" --clients "$clients" --requests "$count" --warm-up "$clients" \
        --timeout 10m --json "$file" "$@" >/dev/null 2>"$out/bench.log" || {
        cat "$out/bench.log" >&2
        die "bench failed: $what"
    }
    jq -r --arg what "$what" --arg clients "$clients" '.summary | [$what, $clients, .ok, .refused + .failed,
        (.requests_per_s * 1000 | round / 1000), (.audio_s_per_s * 10 | round / 10),
        (.latency.mean_s * 1000 | round / 1000), (.latency.p95_s * 1000 | round / 1000),
        ([.backends[]? | select(.backend != "") | "\(.backend) \(.requests)"] | join(", "))] | @tsv' "$file" >>"$table"
}

prepare() {
    rm -rf "$out"
    mkdir -p "$out/short" "$out/medium"
    [ -f "$model" ] || die "there is no model $model: put ggml-large-v3.bin there (or name another, MODEL=base), and run this again"
    if [ "$dry" = 0 ]; then
        nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader -i "$gpu" >"$out/card" 2>/dev/null ||
            die "no NVIDIA GPU $gpu is here: nvidia-smi does not list it (DRY=1 tries the script without one)"
        ours=(--gpu "$gpu")
        theirs=(-dev "$gpu")
    else
        echo "no card: a dry run on the CPU, whose figures mean nothing" >"$out/card"
        ours=(--gpu off --threads 1)
        theirs=(-ng -t 1)
    fi
    slice=(env)
    recordings=$(scripts/recordings.sh)
    prefix=$(scripts/libwhisper.sh)
    # Short clips are those of at most 7 s; whisper takes any of these for one window of 30 s.
    awk -F'\t' '!/^#/ && $2 <= 7 {print $1}' "$recordings/manifest.tsv" | while read -r clip; do
        cp "$recordings/$clip" "$out/short/"
    done
    awk -F'\t' '!/^#/ && $2 > 7 && $2 <= 28 {print $1}' "$recordings/manifest.tsv" | while read -r clip; do
        cp "$recordings/$clip" "$out/medium/"
    done
    printf 'what\tat once\tok\tnot\trequests/s\taudio s/s\tmean s\tp95 s\twho served\n' >"$table"
}

run_tests() {
    say "running the backend's tests"
    eval "$(scripts/libwhisper.sh --env)"
    eval "$(scripts/test-env.sh)"
    go test -tags whispercpp ./backend/... ./cmd/whisper-backend/... >"$out/tests.log" 2>&1 || {
        grep -E '^(---|FAIL|panic)' "$out/tests.log" >&2 || tail -n 20 "$out/tests.log" >&2
        die "tests failed; all that they said is in $out/tests.log"
    }
}

# streams_beside_peer: one card, one server at a time, the same recordings and settings: greedy, no
# fallback, text as answer.
streams_beside_peer() {
    local n settings=(--dir "$out/medium" --field temperature_inc=0 --field best_of=1 --field beam_size=1 --field language=en)
    start whisper-server "http://127.0.0.1:$port/" "$prefix/bin/whisper-server" -m "$model" --host 127.0.0.1 --port "$port" "${theirs[@]}"
    for n in $streams; do measure "whisper-server" "$n" "http://127.0.0.1:$port" --path /inference "${settings[@]}"; done
    stop_all
    for n in $streams; do
        backend "streams-$n" "$port" --slots "$n" --short-clips off
        measure "whisper-backend --slots $n" "$n" "http://127.0.0.1:$port" --path /inference "${settings[@]}"
        stop_all
    done
}

short_clips() {
    local state
    for state in off on; do
        backend "short-$state" "$port" --slots 1 --short-clips "$state"
        measure "clips of 3 to 7 s, --short-clips $state" 1 "http://127.0.0.1:$port" --dir "$out/short" --field language=en
        stop_all
    done
}

start_mps() {
    command -v nvidia-cuda-mps-control >/dev/null || {
        say "no nvidia-cuda-mps-control here (it comes with the driver): slices are left out"
        return 1
    }
    export CUDA_MPS_PIPE_DIRECTORY=$PWD/$out/mps CUDA_MPS_LOG_DIRECTORY=$PWD/$out/mps-log
    mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"
    nvidia-cuda-mps-control -d || die "MPS did not start; see $CUDA_MPS_LOG_DIRECTORY"
    mps=running
}

# as_slice PERCENT sets slice: what a backend is started with to have so much of the card. In a dry
# run a niceness is its like.
as_slice() {
    if [ "$dry" = 0 ]; then
        slice=(env "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=$1")
    else
        slice=(nice -n $(((100 - $1) / 10)))
    fi
}

# mixed_pool: slices of one card as cards of unequal speed, each alone first, then all behind the proxy.
mixed_pool() {
    local i at=$port config=$out/Caddyfile
    if [ "$dry" = 0 ]; then start_mps || return 0; fi
    for i in "${slices[@]}"; do
        as_slice "$i"
        backend "slice-$i-alone" "$port" --slots 1
        measure "slice of $i % alone" 1 "http://127.0.0.1:$port" --dir "$out/medium" --field language=en
        stop_all
    done
    {
        printf '{\n\tadmin off\n\tauto_https off\n}\nhttp://127.0.0.1:%d {\n\tbind 127.0.0.1\n\twhisper_pool {\n' $((port + 9))
        for i in "${slices[@]}"; do
            at=$((at + 1))
            as_slice "$i"
            backend "slice-$i" "$at" --slots 1 >&2
            printf '\t\tbackend 127.0.0.1:%d {\n\t\t\tname slice-%s\n\t\t}\n' "$at" "$i"
        done
        printf '\t}\n}\n'
    } >"$config"
    start proxy "http://127.0.0.1:$((port + 9))/health?pool" bin/whisperpool run --config "$config" --adapter caddyfile
    for i in 1 3 6 12; do
        measure "all slices behind the proxy" "$i" "http://127.0.0.1:$((port + 9))" --dir "$out/medium" --field language=en
    done
    stop_all
}

report() {
    {
        printf 'card: %s\nmodel: %s\nwhisperpool: %s\n\n' "$(cat "$out/card")" "$(basename "$model")" "$(bin/whisper-backend --version)"
        column -t -s $'\t' <"$table"
    } | tee "$out/report.txt"
    say "the same is in $out/report.txt, logs and figures beside it"
}

prepare
for part in $parts; do
    case $part in
    tests) run_tests ;;
    streams) streams_beside_peer ;;
    short) short_clips ;;
    slices) mixed_pool ;;
    *) die "there is no part '$part'; there are tests, streams, short and slices" ;;
    esac
done
report

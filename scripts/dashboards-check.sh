#!/usr/bin/env bash
# Behind `make dashboards-check`: a real Prometheus scrapes a real proxy in front of emulated cards that are under load
# and of which one fails for a while; then every dashboard is drawn with Grafana's own components, and every rule
# is evaluated. Fails when a panel is empty or a query refused. Pictures are left in run/dashboards.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

out=run/dashboards
load_seconds=${LOAD_SECONDS:-150} # what is drawn; the picture is of the last of it
pids=()
mkdir -p "$out"
work=$(mktemp -d)

stop() {
    trap - EXIT INT TERM
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

prometheus=$(scripts/prometheus.sh)
browser=$(scripts/browser.sh)
page=$(scripts/dashboards-page.sh)
need curl curl ca-certificates
need jq jq
need python3 python3

say "checking rules and queries"
WHISPERPOOL_PROMETHEUS=$prometheus go test ./dashboards/... >&2

say "building the emulated backend"
CGO_ENABLED=0 go build -o "$work/whisper-backend" ./cmd/whisper-backend

# start NAME COMMAND...: in the background, with its log beside the pictures.
start() {
    local name=$1
    shift
    "$@" >"$out/$name.log" 2>&1 &
    pids+=($!)
}

# wait_for URL NAME: until it answers 200, or its process is gone.
wait_for() {
    local pid=${pids[-1]} tries=0
    until curl --silent --fail --output /dev/null --max-time 2 "$1"; do
        kill -0 "$pid" 2>/dev/null || {
            tail -n 5 "$out/$2.log" >&2
            die "$2 did not start; its log is $out/$2.log"
        }
        ((++tries < 600)) || die "$2 is not ready after minutes; its log is $out/$2.log"
        sleep 0.1
    done
}

# Ports below those that systems take for outgoing connections.
first_port=${FIRST_PORT:-18400}
proxy=127.0.0.1:$first_port admin=127.0.0.1:$((first_port + 1)) metrics=127.0.0.1:$((first_port + 2))
prom=127.0.0.1:$((first_port + 3)) prom_native=127.0.0.1:$((first_port + 4)) files=$((first_port + 5))
declare -A cards=([t4-1]="T4 $((first_port + 10))" [t4-2]="T4 $((first_port + 11))" [a10g-1]="A10G $((first_port + 12))" [h100-1]="H100 $((first_port + 13))")
for port in {0..5} {10..13}; do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$((first_port + port))") 2>/dev/null ||
        die "port $((first_port + port)) is in use; set FIRST_PORT to another and run this again"
done

say "starting four emulated cards and the proxy"
backends="" targets=""
for name in t4-1 t4-2 a10g-1 h100-1; do
    read -r class port <<<"${cards[$name]}"
    start "$name" "$work/whisper-backend" --engine emulator --emulate-class "$class" --emulate-model large-v3 --emulate-model base \
        --gpu-class "$class" --listen "127.0.0.1:$port" --slots 2 --speed-up 2.5 --queue 16
    wait_for "http://127.0.0.1:$port/health" "$name"
    backends+="backend 127.0.0.1:$port $class {
        name $name
    }
    "
    targets+="
  - targets: ['127.0.0.1:$port']
    labels: {upstream: $name}"
done
cat >"$work/Caddyfile" <<CADDY
{
    admin $admin
    auto_https off
    storage file_system $work/caddy
    log {
        level WARN
    }
}
http://$proxy {
    whisper_pool main {
        $backends
        default_model large-v3
        priority {header.X-Priority}
        tenant {header.X-Tenant}
        hedge on
        queue {
            max_requests 60
        }
        upload {
            spool $work/spool
        }
    }
}
http://$metrics {
    metrics /metrics
}
CADDY
start proxy bin/whisperpool run --config "$work/Caddyfile" --adapter caddyfile
wait_for "http://$proxy/health?pool" proxy

say "starting Prometheus twice: for classic histograms, and for native ones"
cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 2s, evaluation_interval: 2s}
rule_files: ['$PWD/dashboards/rules/*.yml']
scrape_configs:
- job_name: whisperpool
  static_configs:
  - targets: ['$metrics']
- job_name: whisper-backend
  static_configs:$targets
YAML
sed '/^rule_files/d' "$work/prometheus.yml" >"$work/native.yml"
# Prometheus 2.40 to 3.7 has a flag for native histograms, and from 3.8 an option in their place.
sed 's/evaluation_interval: 2s/&, scrape_native_histograms: true/' "$work/native.yml" >"$work/option.yml"
if "$prometheus/promtool" check config "$work/option.yml" >/dev/null 2>&1; then mv "$work/option.yml" "$work/native.yml"; fi
start prometheus "$prometheus/prometheus" --config.file "$work/prometheus.yml" --storage.tsdb.path "$work/tsdb" --web.listen-address "$prom"
wait_for "http://$prom/-/ready" prometheus
start prometheus-native "$prometheus/prometheus" --config.file "$work/native.yml" --storage.tsdb.path "$work/native" \
    --web.listen-address "$prom_native" --enable-feature=native-histograms
wait_for "http://$prom_native/-/ready" prometheus-native

# load NAME RATE LENGTHS FLAGS...: requests at random moments.
load() {
    local name=$1 rate=$2 length=$3
    shift 3
    start "load-$name" bin/whisperpool bench --url "http://$proxy" --rate "$rate" --length "$length" --duration "${load_seconds}s" --timeout 120s "$@"
}
fault() {
    curl --silent --show-error --fail --output /dev/null -X PUT "http://127.0.0.1:${cards[$1]#* }/emulator/fault" -d "$2"
}

say "loading it for $load_seconds s, and breaking t4-1 in between"
load call-centre 6 lognormal:12,1,90 --header 'X-Priority: interactive' --header 'X-Tenant: call-centre' --seed 1
load archive 2 lognormal:40,1,240 --header 'X-Priority: batch' --header 'X-Tenant: archive' --seed 2
load captions 3 5,10,30 --header 'X-Tenant: captions' --model base --seed 3
load impatient 0.6 20 --header 'X-Deadline-Ms: 150' --seed 4
load invalid 0.4 5 --field temperature=7 --seed 5
sleep $((load_seconds * 35 / 100))
fault t4-1 "{\"fault\": \"error\", \"for\": \"$((load_seconds / 5))s\"}"
fault a10g-1 "{\"fault\": \"slow\", \"factor\": 12, \"share\": 0.1, \"for\": \"$((load_seconds / 5))s\"}"
sleep $((load_seconds * 20 / 100))
start burst bin/whisperpool bench --url "http://$proxy" --burst 90 --length 20 --header 'X-Tenant: burst' --timeout 120s
sleep $((load_seconds * 40 / 100))
end=$(date +%s)

failed=0
say "checking the metrics"
curl --silent --fail "http://$metrics/metrics" >"$out/metrics.txt"
grep -E '^(# (HELP|TYPE) )?whisperpool_' "$out/metrics.txt" | "$prometheus/promtool" check metrics || failed=1
curl --silent --fail "http://127.0.0.1:${cards[h100-1]#* }/metrics" | grep -E '^(# (HELP|TYPE) )?whisper_backend_' | "$prometheus/promtool" check metrics || failed=1

say "checking the rules' results"
curl --silent --fail "http://$prom/api/v1/rules" >"$out/rules.json"
jq -e '[.data.groups[].rules[] | select(.health != "ok")] == []' "$out/rules.json" >/dev/null || {
    jq -r '.data.groups[].rules[] | select(.health != "ok") | "\(.name): \(.health) \(.lastError // "")"' "$out/rules.json" >&2
    failed=1
}
# What compares with yesterday has nothing to compare with.
for rule in $(jq -r '.data.groups[].rules[] | select(.type == "recording") | .name' "$out/rules.json" | grep -v change1d | sort -u); do
    curl --silent --fail --get "http://$prom/api/v1/query" --data-urlencode "query=$rule" | jq -e '.data.result != []' >/dev/null || {
        say "the recording rule $rule gives nothing"
        failed=1
    }
done

say "drawing the dashboards"
cp -r "$page/." "$work/page"
cp dashboards/*.json "$work/page/"
start page python3 -m http.server --bind 127.0.0.1 --directory "$work/page" "$files"
wait_for "http://127.0.0.1:$files/" page

# height DASHBOARD ABSENT: of the page in pixels, with all rows open but those that are absent.
height() {
    jq --arg absent "$2" '([.panels[].gridPos | .y + .h] | max) as $closed | [.panels[] | select(.type == "row" and .collapsed) |
        if .title | test($absent) then -1 else ([.panels[].gridPos | .y + .h] | max) - .gridPos.y - 1 end] | (add // 0) + $closed | . * 38 + 60' "dashboards/$1.json"
}

# draw PICTURE DASHBOARD PROMETHEUS ABSENT [PARAMETERS [HEIGHT]]: leaves a picture, and fails unless the page says that all is there. Rows
# whose titles match ABSENT are left out; HEIGHT pixels are seen, without it all.
draw() {
    local title
    title=$(timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$work/profile" --virtual-time-budget=40000 \
        --window-size="1424,${6:-$(height "$2" "$4")}" --screenshot="$PWD/$out/$1.png" --dump-dom \
        "http://127.0.0.1:$files/?dash=$2.json&prom=http://$3&secs=$((load_seconds * 9 / 10))&end=$end&absent=$4${5:-}" 2>"$out/browser.log" |
        sed -n 's:.*<title>\([^<]*\)<.*:\1:p')
    say "  $1: $title"
    case $title in "READY "*" empty=0 errors=0 unsupported=0 "*) ;; *) failed=1 ;; esac
    case $title in *annotations=0*) say "  $1: no breaker opened" && failed=1 ;; esac
}
draw overview whisperpool-overview "$prom" DCGM
draw overview-top whisperpool-overview "$prom" DCGM '' 730 # for README.md
draw backend whisperpool-backend "$prom" DCGM '&var-upstream=t4-1'
draw capacity whisperpool-capacity "$prom" DCGM
# Without the rules, and with native histograms alone.
draw overview-native whisperpool-overview "$prom_native" DCGM
draw backend-native whisperpool-backend "$prom_native" 'DCGM|says of itself' '&var-upstream=t4-1'
draw capacity-native whisperpool-capacity "$prom_native" 'DCGM|Cost'

if [ -n "${STAY:-}" ]; then
    say "staying up: Prometheus is at http://$prom, the page at http://127.0.0.1:$files/?dash=whisperpool-overview.json&prom=http://$prom; Ctrl-C stops it"
    printf '%s\n' "$end" >"$out/end"
    wait
fi
((failed == 0)) || die "something is empty or refused, see above; logs and pictures are in $out/"
say "every panel has data; the pictures are in $out/"

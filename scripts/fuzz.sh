#!/usr/bin/env bash
# Runs every fuzz target of the tree for a while each (FUZZTIME, a minute unless told), goes on after
# a finding, prints a table and fails at the end when anything was found. What Go found is left under
# testdata/fuzz beside the test: fix it, and keep the file as a seed.
# Arguments, if any: packages to look for targets in.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-60s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if (($#)); then
  packages=("$@")
else
  # Go builds every package that it lists tests of, so it is asked only about those that have any.
  mapfile -t packages < <(git ls-files -co --exclude-standard '*_test.go' | xargs grep -l '^func Fuzz' |
    xargs -n 1 dirname | sort -u | sed 's|^|./|')
fi

# last FIELD-PATTERN: what the pattern's group matched last in the log.
last() { sed -nE "s/.*$1.*/\1/p" "$log" | tail -1; }

row='%-44s %8s %12s %6s  %s\n'
table='' failed=0
for package in "${packages[@]}"; do
  if ! targets=$(go test -list '^Fuzz' "$package"); then
    printf '%s\n' "$targets"
    table+=$(printf "$row" "$package" - - - 'does not build')$'\n' failed=1
    continue
  fi
  for target in $(grep '^Fuzz' <<<"$targets" || true); do
    echo "== $package $target" >&2
    held=yes began=$SECONDS
    if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10s "$package" >"$log" 2>&1; then
      held=NO
      # Go itself may fail at the end of its time when a run is just under way, with nothing found
      # (golang/go#75804): what was found is always written.
      if grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"; then
        held=yes
      else
        failed=1
        grep -v '^fuzz: elapsed' "$log" | head -60 >&2
      fi
    fi
    table+=$(printf "$row" "${package#./} $target" "$((SECONDS - began)) s" "$(last 'execs: ([0-9]+)')" \
      "$(last 'new interesting: ([0-9]+)')" "$held")$'\n'
  done
done

printf "\n$row" target time executions new held
printf '%s' "$table"
exit $failed

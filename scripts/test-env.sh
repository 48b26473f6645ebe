#!/usr/bin/env bash
# Prints the assignments that tell the tests where the real things are. With them set, a test that
# needs a real thing fails when it is missing; without them it is skipped and says so.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

prefix=$(./libwhisper.sh)
cat <<END
export WHISPERPOOL_E2E=1
export WHISPERPOOL_TEST_MODEL_DIR='$cache/models'
export WHISPERPOOL_RECORDINGS='$(./recordings.sh)'
export WHISPERPOOL_WHISPER_SERVER='$prefix/bin/whisper-server'
export WHISPERPOOL_OPENAI_PYTHON='$(./test-tools.sh)/bin/python'
export WHISPERPOOL_OPENAI_NODE='$(./test-tools.sh --node)'
export WHISPERPOOL_PROMETHEUS='$(./prometheus.sh)'
export WHISPERPOOL_BROWSER='$(./browser.sh)'
export WHISPERPOOL_AXE='$(./test-tools.sh --axe)'
# Several whisper.cpp share these cores: a thread that waits must sleep, not spin.
export OMP_WAIT_POLICY=passive
END
# A CUDA build of the same source, if there is one: it takes hours, so none is made for tests.
for build in "$cache"/libwhisper/*-cuda-*/BUILD; do
    if grep -qxF "$(grep '^tree ' "$prefix/BUILD")" "$build" 2>/dev/null; then
        printf "export WHISPERPOOL_TEST_CUDA='%s'\n" "$(dirname "$build")/lib"
        break
    fi
done

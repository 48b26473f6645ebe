#!/usr/bin/env bash
# Builds whisper.cpp as static libraries outside the tree, once per version, flags and machine.
#
#   scripts/libwhisper.sh          builds if it has to; the last line on stdout is the prefix
#   scripts/libwhisper.sh --env    the same, but prints what cgo needs, for eval:
#                                      eval "$(scripts/libwhisper.sh --env)"
#
# Environment:
#   WHISPERPOOL_CACHE   where to keep it (default: $XDG_CACHE_HOME/whisperpool or ~/.cache/whisperpool)
#   CUDA=1              with CUDA: the toolkit of nvcc on PATH or /usr/local/cuda, else NVIDIA's compiler from PyPI
#   CUDA_ARCHS          default "75;86;90" (T4; A10G; H100)
#   NATIVE=0            code for any x86-64 with AVX2 instead of for this very CPU
#   CC, CXX, JOBS       compilers and parallel compilations
#
# The prefix has include/, lib/ (whisper, ggml, ggml-base, ggml-cpu and with CUDA ggml-cuda) and bin/
# (whisper-server, whisper-cli, whisper-bench, whisper-quantize).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

version=1.9.1
commit=f049fff95a089aa9969deb009cdd4892b3e74916 # of upstream's tag v1.9.1
# sha256 over the sorted sha256 list of the files that the build reads (see tree_digest): upstream's
# tag and the npm package hold the same, so one pin covers both.
tree=64d5492ae0128ca2d3e18e58a2a3e758ae96e13f6c0a48d237c23b9f4490624d
upstream="https://github.com/ggml-org/whisper.cpp/archive/$commit.tar.gz"
npm_package=nodejs-whisper@0.3.1 # ships whisper.cpp 1.9.1 whole, for machines that reach only package registries
npm_sha256=92041caf2b26c74b7f489fedf37bd093f216eebd61df512045ec2d19d0531d37
targets=(whisper whisper-server whisper-cli whisper-bench whisper-quantize)

# NVIDIA's compiler as wheels; only CUDA 13 comes whole.
cuda_wheels=(nvidia-cuda-nvcc==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-nvvm==13.5.37
    nvidia-cuda-cccl==13.3.5.0.6 nvidia-cuda-runtime==13.5.37 nvidia-cublas==13.10.0.20)

cuda=${CUDA:-0}
cuda_archs=${CUDA_ARCHS:-75;86;90}
native=${NATIVE:-1}

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

# find_cuda sets cuda_root and nvcc, installing the compiler from PyPI where no toolkit is.
find_cuda() {
    if command -v nvcc >/dev/null; then
        nvcc=$(readlink -f "$(command -v nvcc)")
    elif [ -x /usr/local/cuda/bin/nvcc ]; then
        nvcc=$(readlink -f /usr/local/cuda/bin/nvcc)
    else
        install_cuda_wheels
        nvcc=$cuda_wheels_root/bin/nvcc
    fi
    cuda_root=$(dirname "$(dirname "$nvcc")")
    if [ -d "$cuda_root/lib64" ]; then cuda_lib=$cuda_root/lib64; else cuda_lib=$cuda_root/lib; fi
}

install_cuda_wheels() {
    local dir
    dir=$cache/cuda/$(printf '%s\n' "${cuda_wheels[@]}" | sha256sum | cut -c1-12)
    cuda_wheels_root=$dir/nvidia/cu13
    [ -x "$cuda_wheels_root/bin/nvcc" ] && return
    require python3=python3 pip3=python3-pip
    mkdir -p "$cache/cuda"
    exec 8>"$dir.lock"
    flock 8 # two at once would write over each other
    [ -x "$cuda_wheels_root/bin/nvcc" ] && return
    say "no CUDA toolkit found; fetching NVIDIA's compiler from PyPI (about 950 MB unpacked)"
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    python3 -m pip install --no-deps --target "$dir.part" "${cuda_wheels[@]}" >&2 ||
        die "could not fetch NVIDIA's compiler from PyPI; install the CUDA toolkit, put nvcc on PATH and try again"
    local lib=$dir.part/nvidia/cu13/lib name versioned
    for name in cudart cublas cublasLt; do
        versioned=$(find "$lib" -name "lib$name.so.*" -printf '%f\n' | head -n 1)
        ln -sf "$versioned" "$lib/lib$name.so"
    done
    ln -sfn lib "$dir.part/nvidia/cu13/lib64"
    chmod +x "$dir.part/nvidia/cu13/bin/"* "$dir.part/nvidia/cu13/nvvm/bin/"* 2>/dev/null || true
    rm -rf "$dir"
    mv "$dir.part" "$dir"
    exec 8>&-
}

# cmake_flags sets flags: all that makes one build differ from another, paths of this machine apart.
cmake_flags() {
    flags=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON
        -DWHISPER_BUILD_TESTS=OFF -DWHISPER_SDL2=OFF -DWHISPER_CURL=OFF -DGGML_OPENMP=ON -DGGML_CCACHE=OFF
        -DCMAKE_C_FLAGS=-w -DCMAKE_CXX_FLAGS=-w) # upstream's warnings are not ours to read
    if [ "$native" = 1 ]; then flags+=(-DGGML_NATIVE=ON); else flags+=(-DGGML_NATIVE=OFF); fi
    if [ "$cuda" = 1 ]; then
        # Without VMM nothing links libcuda, so that the binary also starts where no driver is.
        flags+=(-DGGML_CUDA=ON -DGGML_CUDA_NO_VMM=ON -DGGML_CUDA_NCCL=OFF "-DCMAKE_CUDA_ARCHITECTURES=$cuda_archs")
    fi
}

# build_key prints what the build depends on, shortened: moved to another CPU, a native build would
# die of an illegal instruction, so the CPU's features belong to it.
build_key() {
    {
        printf '%s\n' "$tree" "${targets[@]}" "${flags[@]}"
        "${CXX:-c++}" --version | head -n 1
        "${CXX:-c++}" -dumpmachine
        if [ "$native" = 1 ]; then grep -m1 -E '^(flags|Features)' /proc/cpuinfo || true; fi
        if [ "$cuda" = 1 ]; then "$nvcc" --version | tail -n 1; fi
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

# build PREFIX works beside PREFIX and renames at the end: what was interrupted is never used.
build() {
    local prefix=$1 work=$1.part generator=()
    rm -rf "$work"
    mkdir -p "$work/download"
    from_upstream "$work/download" "$work/source" || {
        say "upstream is out of reach or not what is pinned; trying the second source"
        rm -rf "$work/source"
        from_npm "$work/download" "$work/source" ||
            die "neither $upstream nor the npm package $npm_package could be had; check the network (or the proxy settings) and try again"
    }
    if command -v ninja >/dev/null; then generator=(-G Ninja); fi
    if [ "$cuda" = 1 ]; then
        generator+=("-DCMAKE_CUDA_COMPILER=$nvcc" "-DCUDAToolkit_ROOT=$cuda_root")
    fi
    say "configuring"
    cmake "${generator[@]}" -S "$work/source" -B "$work/build" "${flags[@]}" >"$work/configure.log" 2>&1 || {
        cat "$work/configure.log" >&2
        die "cmake could not configure whisper.cpp; its last lines above say why"
    }
    say "compiling whisper.cpp $version with ${JOBS:-$(nproc)} jobs (about two minutes on two cores; an hour with CUDA)"
    # Under our own make, another one would tell of every folder it enters.
    env -u MAKEFLAGS -u MAKELEVEL NINJA_STATUS='[whisper.cpp %p, %e s] ' cmake --build "$work/build" --parallel "${JOBS:-$(nproc)}" \
        --target "${targets[@]}" >&2 || die "compiling whisper.cpp failed; the first error above says why"

    local out=$work/prefix
    mkdir -p "$out/include" "$out/lib" "$out/bin"
    cp "$work/source/include/whisper.h" "$work/source/ggml/include/"*.h "$out/include/"
    find "$work/build" -name 'lib*.a' \( -name 'libwhisper.a' -o -name 'libggml*.a' \) -exec cp {} "$out/lib/" \;
    find "$work/build/bin" -maxdepth 1 -type f -perm -u+x -name 'whisper-*' -exec cp {} "$out/bin/" \;
    cp "$work/source/LICENSE" "$out/"
    printf '%s\n' "version $version" "commit $commit" "tree $tree" "${flags[@]}" >"$out/BUILD"
    mv "$out" "$prefix"
    rm -rf "$work"
}

# print_env PREFIX: flags and not C_INCLUDE_PATH, since go's build cache knows of flags only; a
# changed library must not be taken for the old one.
print_env() {
    local link="-L$1/lib"
    if [ "$cuda" = 1 ]; then
        link+=" -L$cuda_lib -Wl,-rpath,$cuda_lib -Wl,--start-group -lwhisper -lggml -lggml-base -lggml-cpu -lggml-cuda"
        link+=" -Wl,--end-group -lcudart_static -lcublas -lcublasLt -ldl -lrt -lpthread"
    fi
    printf 'export CGO_ENABLED=1\n'
    printf 'export CGO_CPPFLAGS=%q\n' "-I$1/include"
    printf 'export CGO_LDFLAGS=%q\n' "-g -O2 $link"
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
    if [ "$cuda" = 1 ]; then find_cuda; fi
    cmake_flags
    local kind=cpu prefix
    if [ "$cuda" = 1 ]; then kind=cuda; fi
    prefix=$cache/libwhisper/$version-$kind-$(build_key)

    if [ ! -d "$prefix" ]; then
        exec 9>"$prefix.lock"
        flock -n 9 || {
            say "another build of the same is under way; waiting for it"
            flock 9
        }
        if [ ! -d "$prefix" ]; then
            local tools=(cmake=cmake tar=tar 'curl=curl,ca-certificates')
            command -v make >/dev/null || tools+=(ninja=ninja-build)
            require "${tools[@]}"
            build "$prefix"
            say "installed to $prefix"
        fi
    fi
    if [ "${1:-}" = --env ]; then print_env "$prefix"; else printf '%s\n' "$prefix"; fi
}

main "$@"

# shellcheck shell=bash disable=SC2154 # what is not set here, libwhisper.sh sets
# Sourced by libwhisper.sh: CUDA's compiler, and ggml's CUDA backend as a library of its own. It takes
# an hour and a half of one processor for five architectures, so it is kept apart from the rest,
# which is rebuilt more often, and an interrupted build goes on where it was.

# NVIDIA's compiler as wheels; only CUDA 13 comes whole.
cuda_wheels=(nvidia-cuda-nvcc==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-nvvm==13.5.37
    nvidia-cuda-cccl==13.3.5.0.6 nvidia-cuda-runtime==13.5.37 nvidia-cublas==13.10.0.20)

# T4, A100, A10G, L4, H100; for H100 as PTX too, which the driver translates for later cards.
cuda_released="75-real;80-real;86-real;89-real;90"

# find_cuda sets nvcc, cuda_root and cuda_lib, installing the compiler from PyPI where no toolkit is.
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

# cuda_architectures prints what to compile for: what CUDA_ARCHS says, else this machine's cards, else
# what is released.
cuda_architectures() {
    local cards
    if [ -n "${CUDA_ARCHS:-}" ]; then
        printf '%s\n' "$CUDA_ARCHS"
    elif [ "$portable" = 0 ] && cards=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null) && [ -n "$cards" ]; then
        tr -d '. ' <<<"$cards" | sort -un | paste -sd ';'
    else
        printf '%s\n' "$cuda_released"
    fi
}

# cuda_flags sets flags: all that makes one build of the CUDA backend differ from another, paths of
# this machine apart.
cuda_flags() {
    flags=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_BACKEND_DL=ON -DGGML_NATIVE=OFF -DGGML_CCACHE=OFF
        -DWHISPER_BUILD_TESTS=OFF -DWHISPER_BUILD_EXAMPLES=OFF -DCMAKE_CXX_FLAGS=-w -DCMAKE_CUDA_FLAGS=-w
        "-DCMAKE_INSTALL_RPATH=\$ORIGIN" -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON
        -DGGML_CUDA=ON -DGGML_CUDA_FA=ON -DGGML_CUDA_NCCL=OFF
        -DGGML_CUDA_NO_VMM=ON # else it is linked with libcuda, of which NVIDIA's wheels have no stub
        "-DCMAKE_CUDA_ARCHITECTURES=$(cuda_architectures)")
}

# cuda_module sets cuda_prefix to the folder with lib/libggml-cuda.so and the libraries of CUDA that
# it needs, building what isn't there.
cuda_module() {
    find_cuda
    local flags key
    cuda_flags
    key=$({
        printf '%s\n' "$tree" "${flags[@]}"
        "${CXX:-c++}" --version | head -n 1
        "${CXX:-c++}" -dumpmachine
        "$nvcc" --version | tail -n 1
    } | sha256sum | cut -c1-16)
    cuda_prefix=$cache/libwhisper/$version-cuda-$key
    if [ -d "$cuda_prefix" ]; then return; fi
    once "$cuda_prefix" build_cuda_module
}

# build_cuda_module PREFIX works in PREFIX.part and leaves it there when it is interrupted.
build_cuda_module() {
    local prefix=$1 work=$1.part out=$1.part/prefix name
    sources "$work"
    say "compiling ggml's CUDA backend for $(cuda_architectures); it takes long and goes on where it was if you stop it"
    compile "$work" "-DCMAKE_CUDA_COMPILER=$nvcc" "-DCUDAToolkit_ROOT=$cuda_root" -- ggml-cuda
    rm -rf "$out"
    mkdir -p "$out/lib"
    cp "$work/build/bin/libggml-cuda.so" "$out/lib/"
    for name in libcudart libcublas libcublasLt; do # linked, since they are 600 MB; a release copies them
        find "$cuda_lib/" -maxdepth 1 -regex ".*/$name\.so\.[0-9]+" -exec ln -sf -t "$out/lib" {} +
    done
    printf '%s\n' "version $version" "commit $commit" "tree $tree" "${flags[@]}" >"$out/BUILD"
    mv "$out" "$prefix"
    rm -rf "$work"
}

# Sourced by the other scripts: what they have in common.

# say prints progress; stdout is kept for results.
say() { printf '%s\n' "$*" >&2; }

# die says in one sentence what is wrong and what to do.
die() {
    say "error: $*"
    exit 1
}

# cache is where everything that is slow to build or fetch is kept, outside the tree.
cache=${WHISPERPOOL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/whisperpool}

# as_root runs a command as root, where that can be done without asking anybody.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# need COMMAND PACKAGE...: makes sure that COMMAND can be run, from the Debian packages if it must.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return
    install_packages "$command" "$@"
    command -v "$command" >/dev/null || die "$command is still missing after installing $*"
}

# install_packages WHAT PACKAGE...: installs the packages, or says which are missing.
install_packages() {
    local what=$1
    shift
    if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
        die "$what is needed and cannot be installed from here; install $* with your package manager and run this again"
    fi
    say "installing $*"
    refresh_package_lists
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        die "apt-get could not install $*"
}

# refresh_package_lists updates apt's lists when they are older than a day, since a fresh machine
# has none.
refresh_package_lists() {
    if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 2>/dev/null | head -n 1)" ]; then
        as_root apt-get update -qq >&2 || die "apt-get update failed"
    fi
}

#!/usr/bin/env bash
# Prints the path of a Chromium that runs without a window: $CHROMIUM, else one that is installed, else
# Debian's, which it installs. A second run takes no time.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

# works BROWSER: whether it starts. Ubuntu's chromium-browser may be there and only tell one to install a snap.
works() { timeout 60 "$1" --version >/dev/null 2>&1; }

# installed prints the path of the first browser that works.
installed() {
    local name path
    for name in chromium google-chrome google-chrome-stable chromium-browser; do
        if path=$(command -v "$name") && works "$path"; then
            echo "$path"
            return
        fi
    done
    return 1
}

if [ -n "${CHROMIUM:-}" ]; then
    path=$(command -v "$CHROMIUM") && works "$path" || die "CHROMIUM=$CHROMIUM is no browser that starts here; set it to the path of a Chromium or a Chrome"
    echo "$path"
    exit
fi
if installed; then exit; fi
if command -v apt-get >/dev/null && as_root true 2>/dev/null; then refresh_package_lists; fi
# Ubuntu has no package of that name, or one that only fetches a snap, which does not run in containers.
package=$(apt-cache show chromium 2>/dev/null || true)
if ! grep -q '^Package: chromium$' <<<"$package" || grep -q '^[A-Za-z-]*Depends:.*snapd' <<<"$package"; then
    die "the tests of pages need a Chromium, and no package of it works here; install Google Chrome, or set CHROMIUM to the path of a Chromium, and run this again"
fi
install_packages chromium chromium fonts-dejavu-core
installed || die "chromium does not start after it was installed; run chromium --version to see why"

#!/usr/bin/env bash
# Gets the recordings that demonstration and tests transcribe, and prints their folder as the last
# line of stdout:
#
#   jfk.wav        11 s of a speech, from whisper.cpp's Go bindings
#   librivox/      five sentences of Sense and Sensibility, read for LibriVox (public domain)
#   cards/         five names of cards in a narrow band, hard to make out
#   manifest.tsv   file, seconds, the words that are spoken
#
# The last two come from Debian's package pocketsphinx-testdata, which is unpacked and not installed.
# A second run only verifies the checksums.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/packages.sh

recordings=$cache/recordings
bindings=github.com/ggerganov/whisper.cpp/bindings/go
package=pocketsphinx-testdata

# A recording a line: sha256, file, seconds, words. The words are those of the package's
# transcriptions with "mister" as it is written, and without a slip in 0920, whose reader says
# "a more amiable".
table() {
    local novel=librivox/sense_and_sensibility_01_austen_64kb
    cat <<END
59dfb9a4acb36fe2a2affc14bacbee2920ff435cb13cc314a08c13f66ba7860e	jfk.wav	11.00	and so my fellow americans ask not what your country can do for you ask what you can do for your country
b0557cf95c974d930577e58e46b7f068c432a6e3afcc286563d88922b2a5315c	$novel-0870.wav	7.10	and mr john dashwood had then leisure to consider how much there might be prudently in his power to do for them
fbec491ef00ee734a67f0ee318e98c51c157b479e1629ff4f4426861ecac0414	$novel-0880.wav	2.99	he was not an ill disposed young man
5793ffbdee55fb8bfd284943a6866864c832d9d4accf2661cabd39915c84ee10	$novel-0890.wav	5.30	unless to be rather cold hearted and rather selfish is to be ill disposed
40882414ef4cc51f3ff7a63bad0c8c87e7f595ffeb8209fbf756c8ebc5c28a59	$novel-0920.wav	6.05	had he married a more amiable woman he might have been made still more respectable than he was
954adbf0b56ac8a148cbe77b39ca18d76b5f2a1e1f405565bd786ce3e68a68b7	$novel-0930.wav	3.29	he might even have been made amiable himself
899951e768666f27c8f8b1d4090b96fe7909cae9cec01bec0a5d5d1b8a8d566e	cards/001.wav	1.10	ten of clubs
a3f9eae6fdb69a1231989e39a14d62388a6f52fb59666c76d95005318fadafec	cards/002.wav	1.96	four queen of clubs
00d283e46bc257ae479e4aa86593cadb541656eba1d19fc8abeece37f6a5a18b	cards/003.wav	1.54	seven of clubs
4c44a8177f5b128b99f078cdeb918119933155574231f1833e8840d1af09c521	cards/004.wav	1.55	five five
090f18f5f76cf8b2b43cd9e6b07823f4685a4742d9a36cd98b174a6586c18cf9	cards/005.wav	3.50	eight of spades four of clubs seven of hearts
END
}

# manifest is the table for readers: file, seconds, words.
manifest() {
    printf '# file\tseconds\twords\n'
    table | cut -f 2-
}

# sums is the table as sha256sum reads it.
sums() { table | awk -F '\t' '{print $1 "  " $2}'; }

# complete FOLDER: it has all recordings, unchanged.
complete() { (cd "$1" 2>/dev/null && sums | sha256sum --check --status 2>/dev/null); }

# fetch_jfk FOLDER
fetch_jfk() {
    local module
    command -v go >/dev/null || die "Go is needed to fetch jfk.wav; install it from https://go.dev/dl and run this again"
    say "fetching jfk.wav with whisper.cpp's Go bindings"
    go mod download "$bindings" >&2 || die "the module $bindings could not be fetched; check the network and GOPROXY, and run this again"
    module=$(go list -m -f '{{.Dir}}' "$bindings")
    install -m 644 "$module/samples/jfk.wav" "$1/jfk.wav"
}

# fetch_package FOLDER: downloading a package and unpacking it need no root; package lists do.
fetch_package() {
    local data=$1/unpacked/usr/share/pocketsphinx/test/data
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        die "the test recordings come from Debian's package $package, and here is no apt-get and dpkg; put its librivox/*.wav and cards/*.wav into $recordings by hand"
    fi
    say "fetching the recordings of Debian's $package (1.8 MB)"
    if ! download "$1" 2>/dev/null; then
        as_root true 2>/dev/null || die "apt-get cannot find $package, and its lists cannot be updated without root; run apt-get update and then this again"
        as_root apt-get update -qq >&2 || say "apt-get update failed; trying with the lists at hand"
        download "$1" || die "apt-get could not download $package; check that its sources hold Debian's or Ubuntu's main archive, and run this again"
    fi
    dpkg -x "$1"/"$package"_*.deb "$1/unpacked"
    mkdir -p "$1/librivox" "$1/cards"
    install -m 644 "$data"/librivox/*.wav "$1/librivox"
    install -m 644 "$data"/cards/*.wav "$1/cards"
    rm -rf "$1/unpacked" "$1"/*.deb
}

# download FOLDER: as root, apt would try, and complain, to write there as its own user.
download() { (cd "$1" && apt-get -qq -o APT::Sandbox::User=root download "$package" >&2); }

if ! complete "$recordings" || [ "$(manifest)" != "$(cat "$recordings/manifest.tsv" 2>/dev/null)" ]; then
    mkdir -p "$cache"
    exec 9>"$recordings.lock"
    flock 9
    if ! complete "$recordings"; then
        part=$recordings.part
        rm -rf "$part"
        mkdir -p "$part"
        fetch_jfk "$part"
        fetch_package "$part"
        complete "$part" || {
            (cd "$part" && sums | sha256sum --check --quiet >&2) || true
            die "the recordings are not those that are pinned in scripts/recordings.sh"
        }
        mkdir -p "$recordings/librivox" "$recordings/cards"
        while read -r _ file; do mv "$part/$file" "$recordings/$file"; done < <(sums)
        rm -rf "$part"
    fi
    manifest >"$recordings/manifest.tsv.part"
    mv "$recordings/manifest.tsv.part" "$recordings/manifest.tsv"
fi
echo "$recordings"

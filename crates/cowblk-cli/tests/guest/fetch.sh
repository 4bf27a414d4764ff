#!/usr/bin/env bash
# Fetches what the guests of this folder's tests are made of: Debian's kernel for clouds, and QEMU's guest agent. Both
# are unpacked and not installed.
#
#   crates/cowblk-cli/tests/guest/fetch.sh [FOLDER]        by default target/guest, which is where the tests look
set -euo pipefail
root=$(cd "$(dirname "$0")/../../../.." && pwd)
folder=${1:-$root/target/guest}
if compgen -G "$folder/boot/vmlinuz-*" >/dev/null && [ -x "$folder/usr/sbin/qemu-ga" ]; then exit 0; fi
kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
[ -n "$kernel" ] || { echo "Debian's package linux-image-cloud-amd64 is not known here" >&2; exit 1; }
rm -rf "$folder/packages"
mkdir -p "$folder/packages"
(cd "$folder/packages" && apt-get download -q "$kernel" qemu-guest-agent)
for package in "$folder"/packages/*.deb; do dpkg-deb -x "$package" "$folder"; done
rm -rf "$folder/packages"
find "$folder" -name '*.ko.xz' -exec xz -d {} +

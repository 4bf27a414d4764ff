#!/bin/sh
# Backs up a disk as a snapshot holds it, over NBD, with the tools of QEMU and libnbd: whole, or only what changed since
# an earlier snapshot that was backed up into the same folder.
#
#   nbd-backup.sh SOCKET SERVER/DISK SNAPSHOT FOLDER [SINCE]
#
# Each backup is an image FOLDER/SNAPSHOT.qcow2; an incremental one lies over that of SINCE. To bring a disk back:
#
#   qemu-img convert -n -O raw FOLDER/SNAPSHOT.qcow2 'nbd+unix:///SERVER/DISK?socket=SOCKET'
set -eu
socket=$1 disk=$2 snapshot=$3 folder=$4 since=${5:-}
export="nbd+unix:///$disk@$snapshot?socket=$socket"
image=$folder/$snapshot.qcow2
[ ! -e "$image" ] || { echo "$image exists" >&2; exit 1; }
if [ -z "$since" ]; then
    qemu-img convert -f raw -O qcow2 "$export" "$image.part"
else
    [ -e "$folder/$since.qcow2" ] || { echo "$folder/$since.qcow2 is missing" >&2; exit 1; }
    changes=$(nbdinfo "--map=qemu:dirty-bitmap:$since" "$export")
    # An image over the export, into which whatever is read is copied ...
    rm -f "$image.part"
    qemu-img create -q -f qcow2 -F raw -b "$export" "$image.part"
    said=$(printf '%s\n' "$changes" | awk -v most=$((32 << 20)) '$3 % 2 == 1 {
        for (at = 0; at < $2; at += most) printf "read %d %d\n", $1 + at, $2 - at < most ? $2 - at : most
    }' | qemu-io -C -f qcow2 "$image.part" 2>&1) || { echo "$said" >&2; exit 1; }
    case $said in *failed* | *rror*) echo "$said" >&2 && exit 1 ;; esac
    # ... lies from now on over the earlier backup.
    qemu-img rebase -u -f qcow2 -F qcow2 -b "$since.qcow2" "$image.part"
fi
sync "$image.part"
mv "$image.part" "$image"

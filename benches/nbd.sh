#!/usr/bin/env bash
# cowblk's NBD server beside qemu-nbd and nbdkit, through the same kind of unix socket, with fio's nbd engine.
# Prints a table in Markdown: medians, and each as a share of nbdkit's memory plugin, which is what the protocol
# and the client allow (1.00).
#
#   benches/nbd.sh [FOLDER]           FOLDER is where stores and images lie: a file system on the medium in question
#   ROUNDS=5 SECONDS_EACH=3 SIZE_MIB=1024 ONLY='cowblk nbdkit-memory' JOBS='randread-4k-1' benches/nbd.sh
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/cowblk-nbd-bench.XXXXXX")
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-3} mib=${SIZE_MIB:-1024}
cowblk=${COWBLK:-$here/target/release/cowblk}
[ -x "$cowblk" ] || (cd "$here" && cargo build --release -p cowblk-cli)
for tool in fio nbdkit qemu-nbd qemu-img; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done

all="nbdkit-memory nbdkit-file qemu-raw qemu-raw-direct qemu-qcow2 qemu-qcow2-direct qemu-qcow2-snapshot cowblk cowblk-snapshot raw-direct"
all_jobs="randread-4k-1 randread-4k-32 read-1m-1 read-1m-32 randwrite-4k-1 randwrite-4k-32 write-1m-1 write-1m-32 flush-1 flush-32"
servers=${ONLY:-$all} jobs=${JOBS:-$all_jobs}
server_pid=
cleanup() { [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true; wait; rm -rf "$folder"; }
trap cleanup EXIT

# Starts a server, and sets `uri`; raw-direct has none.
start() {
    local socket=$folder/$1.sock
    rm -f "$socket"
    uri="nbd+unix:///?socket=$socket"
    case $1 in
        nbdkit-memory) nbdkit -f -U "$socket" memory "${mib}M" & ;;
        nbdkit-file) nbdkit -f -U "$socket" file "$folder/kit.raw" & ;;
        qemu-raw) qemu-nbd -t -k "$socket" -e 8 -f raw --cache=writeback "$folder/qemu.raw" & ;;
        qemu-raw-direct) qemu-nbd -t -k "$socket" -e 8 -f raw --cache=none --aio=native "$folder/qemu.raw" & ;;
        qemu-qcow2) qemu-nbd -t -k "$socket" -e 8 -f qcow2 --cache=writeback "$folder/qemu.qcow2" & ;;
        qemu-qcow2-direct) qemu-nbd -t -k "$socket" -e 8 -f qcow2 --cache=none --aio=native "$folder/qemu.qcow2" & ;;
        qemu-qcow2-snapshot) qemu-nbd -t -k "$socket" -e 8 -f qcow2 --cache=writeback "$folder/snap.qcow2" & ;;
        cowblk | cowblk-snapshot) "$cowblk" --store "$folder/$1.cow" nbd --quiet --unix "$socket" >/dev/null & ;;
    esac
    server_pid=$!
    for _ in $(seq 200); do [ -S "$socket" ] && return; sleep 0.05; done
    echo "$1 did not start" >&2
    exit 1
}

stop() { kill "$server_pid"; wait "$server_pid" || true; server_pid=; }

# One fio run: prints operations in a second.
measure() {
    local server=$1 job=$2 arguments=()
    case $job in
        flush-*) arguments=(--rw=randwrite --bs=4k --iodepth=1 --fsync="${job#flush-}") ;;
        *) IFS=- read -r rw bs depth <<<"$job"; arguments=(--rw="$rw" --bs="$bs" --iodepth="$depth") ;;
    esac
    if [ "$server" = raw-direct ]; then
        arguments+=(--ioengine=libaio --direct=1 --filename="$folder/direct.raw")
    else
        arguments+=(--ioengine=nbd --uri="$uri")
    fi
    fio --name=job --output-format=terse --terse-version=3 --size="${mib}M" --time_based --runtime="$seconds" \
        --randrepeat=0 "${arguments[@]}" | awk -F';' '/^3;/ { print $8 + $49 }'
}

fill() { fio --name=fill --output=/dev/null --rw=write --bs=1m --iodepth=8 --size="${mib}M" --end_fsync=1 "$@"; }
warm() { fio --name=warm --output=/dev/null --rw=read --bs=1m --iodepth=8 --size="${mib}M" "$@"; }

# Everything is full of data before anything is measured.
truncate -s "${mib}M" "$folder/kit.raw" "$folder/qemu.raw" "$folder/direct.raw"
qemu-img create -q -f qcow2 "$folder/qemu.qcow2" "${mib}M"
qemu-img create -q -f qcow2 "$folder/snap.qcow2" "${mib}M"
for server in $servers; do
    case $server in
        cowblk | cowblk-snapshot)
            "$cowblk" --store "$folder/$server.cow" init >/dev/null
            "$cowblk" --store "$folder/$server.cow" server create web >/dev/null
            "$cowblk" --store "$folder/$server.cow" disk create web/vda "${mib}M" >/dev/null ;;
    esac
    case $server in
        raw-direct) fill --ioengine=psync --filename="$folder/direct.raw" ;;
        nbdkit-memory) ;;
        *) start "$server"; fill --ioengine=nbd --uri="$uri"; stop ;;
    esac
    case $server in
        cowblk-snapshot) "$cowblk" --store "$folder/$server.cow" snapshot create web filled >/dev/null ;;
        qemu-qcow2-snapshot) qemu-img snapshot -c filled "$folder/snap.qcow2" ;;
    esac
done

# All servers take turns, so that a slow minute of the machine hits each of them alike.
for round in $(seq "$rounds"); do
    for server in $servers; do
        [ "$server" = raw-direct ] || start "$server"
        if [ "$server" = nbdkit-memory ]; then fill --ioengine=nbd --uri="$uri"; fi
        # Reads are of what the host has cached, for all who cache: cowblk's own writes go past the page cache.
        [ "$server" = raw-direct ] || warm --ioengine=nbd --uri="$uri"
        for job in $jobs; do
            echo "$job $server $(measure "$server" "$job")" >>"$folder/results"
            printf '\rround %s of %s: %-20s %-16s' "$round" "$rounds" "$server" "$job" >&2
        done
        [ "$server" = raw-direct ] || stop
    done
done
printf '\r%70s\r' '' >&2

echo "$(uname -srm), $(nproc) cores, $(date -u +%Y-%m-%d); $(fio --version), $(qemu-nbd --version | sed -n 's/ (.*//;1p'), $(nbdkit --version)"
echo "Operations in a second, medians of $rounds rounds of $seconds s; in brackets the share of nbdkit-memory."
echo
awk -v servers="$servers" -v jobs="$jobs" '
    { values[$1, $2] = values[$1, $2] " " $3 }
    function median(list, parts, count, i, j, swap) {
        count = split(list, parts, " ")
        for (i = 2; i <= count; i++)
            for (j = i; j > 1 && parts[j] + 0 < parts[j - 1] + 0; j--) {
                swap = parts[j]; parts[j] = parts[j - 1]; parts[j - 1] = swap
            }
        return count % 2 ? parts[(count + 1) / 2] : (parts[count / 2] + parts[count / 2 + 1]) / 2
    }
    END {
        columns = split(servers, server, " "); rows = split(jobs, job, " ")
        line = "| job |"; rule = "|---|"
        for (c = 1; c <= columns; c++) { line = line " " server[c] " |"; rule = rule "--:|" }
        print line; print rule
        for (r = 1; r <= rows; r++) {
            line = "| " job[r] " |"
            ceiling = values[job[r], "nbdkit-memory"] == "" ? 0 : median(values[job[r], "nbdkit-memory"])
            for (c = 1; c <= columns; c++) {
                value = median(values[job[r], server[c]])
                line = line sprintf(" %d", value) (ceiling > 0 ? sprintf(" (%.2f)", value / ceiling) : "") " |"
            }
            print line
        }
    }' "$folder/results"

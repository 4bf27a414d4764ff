#!/usr/bin/env bash
# Where the time goes: one profile per load of crates/cowblk-peers, of cowblk alone, as Markdown for docs/performance.md.
#
#   benches/profile.sh                              # prints
#   benches/profile.sh --write docs/performance.md  # puts it where the page keeps profiles
#
# Needs perf. Kernel symbols show if the kernel lets this user see them. Samples begin after COWBLK_PROFILE_DELAY_MS (5000), when the disk is full.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
command -v perf >/dev/null || { echo "SKIPPED: perf is not installed"; exit 0; }

cargo build -q --release --manifest-path "$here/crates/cowblk-peers/Cargo.toml"
program=$here/crates/cowblk-peers/target/release/cowblk-peers
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

profile() {
    # A round of reads is over at once.
    local rounds=8
    case $1 in read) rounds=30 ;; sequential-read) rounds=150 ;; esac
    perf record -q -F 499 -e cpu-clock -D "${COWBLK_PROFILE_DELAY_MS:-5000}" -o "$folder/data" -- \
        "$program" --peers cowblk --scenes contest --loads "$1" --rounds "${COWBLK_PROFILE_ROUNDS:-$rounds}" >"$folder/out" 2>/dev/null
    echo "**$1**: $(sed -n 's/^| .* 4 KiB \|^| sequential/&/p' "$folder/out" | head -1 | cut -d'|' -f2,3 | tr -d '|') operations a second"
    echo
    echo '```text'
    perf report -i "$folder/data" --stdio --no-children -g none --percent-limit 1.5 --sort symbol 2>/dev/null |
        sed -n 's/^ *\([0-9.]*%\)  *\[\([.k])*\)\] *\(.*[^ ]\) *$/\1 [\2] \3/p' |
        sed 's/::h[0-9a-f]\{16\}//; s/  *-  *-$//' | head -14
    echo '```'
    echo
}

{
    echo "$(date -u +%Y-%m-%d), \`perf record -e cpu-clock\`, all threads of the process; \`[k]\` is the kernel."
    echo
    for load in write write-32 write-1 read sequential-write sequential-read; do profile "$load"; done
} >"$folder/page"

if [ "${1:-}" = --write ]; then
    awk -v file="$folder/page" '
        /^<!-- profiles: end -->/ { inside = 0 }
        !inside { print }
        /^<!-- profiles: written by/ { inside = 1; print ""; while ((getline line < file) > 0) print line }
    ' "$2" >"$folder/new"
    cat "$folder/new" >"$2"
else
    cat "$folder/page"
fi

#!/usr/bin/env bash
# Lets schemathesis make requests of the OpenAPI document of a running daemon, for a while: no answer may be a 5xx, and none may
# break the document. Says SKIPPED where it cannot be installed. EXAMPLES (default 10) per address, SECONDS_MAX (default 120) for
# each of two runs.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
daemon=
trap '[ -n "$daemon" ] && kill "$daemon" 2>/dev/null && wait "$daemon" || true; rm -rf "$folder"' EXIT

if ! python3 -m venv "$folder/venv" 2>"$folder/log" || ! "$folder/venv/bin/pip" install -q 'schemathesis>=4,<5' 2>>"$folder/log"; then
    echo "SKIPPED: schemathesis cannot be installed: $(tail -n 1 "$folder/log")"
    exit 0
fi
cargo build -q -p cowblk-cli
cowblk=${CARGO_TARGET_DIR:-target}/debug/cowblk
token=$("$cowblk" --store "$folder/pool.cow" token create schemathesis --quiet)
"$cowblk" --store "$folder/pool.cow" serve --listen 127.0.0.1:18791 --snapshot-limit 1000 >"$folder/out" 2>&1 &
daemon=$!
url=http://127.0.0.1:18791
for _ in $(seq 100); do curl -sf "$url/healthz" >/dev/null && break || sleep 0.1; done
ask() {
    curl -sf -X POST "$url/api/v1/$1/" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d "$2" >/dev/null
}
# Ids count up from 1: a server, its disk, another server, its disk, a snapshot.
for n in 1 2; do ask servers "{\"name\": \"web-$n\", \"disks\": [{\"name\": \"vda\", \"size_gb\": 1}]}"; done
ask snapshots '{"server_id": 1, "name": "a"}'
cat >"$folder/ids.toml" <<'TOML'
[[operations]]
include-path-regex = "^/api/v1/servers/"
parameters = { "path.id" = 1, "path.disk" = "vda" }
[[operations]]
include-path-regex = "^/api/v1/snapshots/"
parameters = { "path.id" = 5 }
TOML
touch "$folder/none.toml"

# The event stream does not end, so it is left out. First with ids of what is there, but for deletions; then with any.
run() {
    "$folder/venv/bin/schemathesis" --config-file "$1" run "$url/api/v1/openapi.json" --header "Authorization: Bearer $token" \
        --exclude-path /api/v1/events/ --max-examples "${EXAMPLES:-10}" --max-time "${SECONDS_MAX:-120}" --seed "${SEED:-1}" \
        --phases examples,coverage,fuzzing --no-color \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance "${@:2}"
}
run "$folder/ids.toml" --exclude-method DELETE
run "$folder/none.toml"
curl -sf "$url/healthz" >/dev/null
kill "$daemon" && wait "$daemon"
daemon=
"$cowblk" --store "$folder/pool.cow" check

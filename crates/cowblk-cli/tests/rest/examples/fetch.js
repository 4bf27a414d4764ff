const assert = require("node:assert");
const headers = { Authorization: "Bearer YOUR_TOKEN", "Content-Type": "application/json" };
const base = "https://api.example.com/api/v1";

(async () => {
  if (typeof fetch === "undefined") return console.log("skipped: this node has no fetch");

  let response = await fetch(`${base}/snapshots/?server_id=12345`, { headers });
  assert.equal(response.status, 200);
  assert.equal((await response.json()).count, 1);

  response = await fetch(`${base}/snapshots/`, {
    method: "POST",
    headers,
    body: JSON.stringify({ server_id: 12345, name: "before-update-snapshot", description: "Before system update" }),
  });
  assert.equal(response.status, 201);
  const snapshot = await response.json();
  assert.equal(snapshot.status, "in_progress");
  assert.equal(snapshot.size_mb, null);

  response = await fetch(`${base}/snapshots/SNAPSHOT_ID/restore/`, { method: "POST", headers });
  assert.equal(response.status, 200);
  assert.equal((await response.json()).status, "success");

  response = await fetch(`${base}/snapshots/SNAPSHOT_ID/`, { method: "DELETE", headers });
  assert.equal(response.status, 204);

  response = await fetch(`${base}/snapshots/`);
  assert.equal(response.status, 401);
  console.log("done");
})().catch((error) => { console.error(error); process.exit(1); });

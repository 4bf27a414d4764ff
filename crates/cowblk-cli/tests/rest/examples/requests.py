import time

try:
    import requests
except ImportError:
    print("skipped: python has no requests")
    raise SystemExit(0)

headers = {"Authorization": "Bearer YOUR_TOKEN"}
base = "https://api.example.com/api/v1"

response = requests.get(f"{base}/snapshots/", params={"server_id": 12345}, headers=headers)
assert response.status_code == 200, response.text
assert response.json()["count"] == 1

data = {"server_id": 12345, "name": "before-update-snapshot", "description": "Before system update"}
response = requests.post(f"{base}/snapshots/", json=data, headers=headers)
assert response.status_code == 201, response.text
snapshot = response.json()
assert snapshot["status"] == "in_progress" and snapshot["size_mb"] is None

while True:
    results = requests.get(f"{base}/snapshots/", params={"server_id": 12345}, headers=headers).json()["results"]
    newest = results[0]
    assert newest["id"] == snapshot["id"], "newest first"
    if newest["status"] == "completed":
        assert newest["size_mb"] is not None
        break
    time.sleep(0.05)

response = requests.post(f"{base}/snapshots/SNAPSHOT_ID/restore/", headers=headers)
assert response.status_code == 200, response.text
assert response.json()["server"]["status"] == "restoring"

response = requests.delete(f"{base}/snapshots/SNAPSHOT_ID/", headers=headers)
assert response.status_code == 204 and response.content == b""

assert requests.get(f"{base}/snapshots/").status_code == 401
assert requests.delete(f"{base}/snapshots/SNAPSHOT_ID/", headers=headers).status_code == 404
print("done")

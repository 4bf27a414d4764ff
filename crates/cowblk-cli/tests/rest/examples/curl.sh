# List
curl -sf -H "Authorization: Bearer YOUR_TOKEN" \
  "https://api.example.com/api/v1/snapshots/?server_id=12345" | grep -q '"count":1'

# Create
curl -sf -X POST "https://api.example.com/api/v1/snapshots/" \
  -H "Authorization: Bearer YOUR_TOKEN" \
  -H "Content-Type: application/json" \
  -d '{"server_id": 12345, "name": "before-update-snapshot", "description": "Before system update"}' \
  | grep -q '"status":"in_progress"'

# Restore
curl -sf -X POST "https://api.example.com/api/v1/snapshots/SNAPSHOT_ID/restore/" \
  -H "Authorization: Bearer YOUR_TOKEN" | grep -q '"status":"success"'

# Delete
code=$(curl -s -o /dev/null -w '%{http_code}' -X DELETE \
  "https://api.example.com/api/v1/snapshots/SNAPSHOT_ID/" -H "Authorization: Bearer YOUR_TOKEN")
test "$code" = 204

# No token
code=$(curl -s -o /dev/null -w '%{http_code}' "https://api.example.com/api/v1/snapshots/")
test "$code" = 401
echo done

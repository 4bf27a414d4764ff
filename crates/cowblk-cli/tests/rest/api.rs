//! Every address of the API: shapes, statuses, refusals, and what they do to the disks.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::daemon::Site;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn snapshots_have_the_shape_that_clients_know() {
    let site = Site::new();
    let daemon = site.start();
    let body = json!({"name": "web-server-01", "id": 12345, "status": "active", "disks": [{"name": "vda", "size_gb": 1}]});
    daemon.post("/api/v1/servers/", &body).expect(201);
    let asked = json!({"server_id": 12345, "name": "before-update-snapshot", "description": "Before major migration"});
    let made = daemon.post("/api/v1/snapshots/", &asked).expect(201);
    let id = made["id"].as_u64().unwrap();
    for key in ["id", "server", "name", "status", "size_mb", "created_at", "description", "message"] {
        assert!(keys(&made).contains(&key), "{made}");
    }
    assert_eq!(made["server"], json!({"id": 12345, "name": "web-server-01"}));
    assert_eq!((made["status"].as_str(), &made["size_mb"]), (Some("in_progress"), &Value::Null));
    assert_eq!(made["created_at"].as_str().unwrap().len(), "2025-01-15T18:30:00Z".len());
    let list = daemon.settled(12345);
    assert_eq!(keys(&list), ["count", "results"]);
    assert_eq!((list["count"].as_u64(), list["results"][0]["id"].as_u64()), (Some(1), Some(id)));
    assert_eq!(list["results"][0]["size_mb"], json!(0));
    assert!(!keys(&list["results"][0]).contains(&"message"));

    let restored = daemon.ask("POST", &format!("/api/v1/snapshots/{id}/restore/"), None, &[]).expect(200);
    let mut found = keys(&restored);
    found.sort_unstable();
    assert_eq!(found, ["message", "server", "snapshot", "status"]);
    assert_eq!(restored["status"], "success");
    assert_eq!(restored["server"], json!({"id": 12345, "name": "web-server-01", "status": "restoring"}));
    let brief = json!({"id": id, "name": "before-update-snapshot", "created_at": made["created_at"]});
    assert_eq!(restored["snapshot"], brief);
    assert_eq!(daemon.rested(12345), "stopped", "the server was stopped before the restore");

    let gone = daemon.delete(&format!("/api/v1/snapshots/{id}/"));
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    assert_eq!(daemon.delete(&format!("/api/v1/snapshots/{id}/")).refusal(404), "not_found");
    assert_eq!(
        daemon.get("/api/v1/snapshots/?server_id=12345").expect(200),
        json!({"count": 0, "results": []})
    );
}

#[test]
fn without_the_last_slash_the_answer_is_the_same() {
    let site = Site::new();
    let daemon = site.start();
    let server = daemon.make_server("web");
    let answer = daemon.post("/api/v1/snapshots", &json!({"server_id": server, "name": "a"}));
    let id = answer.expect(201)["id"].as_u64().unwrap();
    daemon.settled(server);
    for path in ["/api/v1/snapshots", "/api/v1/servers", &format!("/api/v1/servers/{server}")] {
        // Sizes may be counted in between, once.
        let both = || (daemon.get(path).expect(200), daemon.get(&format!("{path}/")).expect(200));
        let (without, with) =
            std::iter::repeat_with(both).take(50).find(|(a, b)| a == b).unwrap_or_else(both);
        assert_eq!(without, with, "{path}");
    }
    daemon.ask("POST", &format!("/api/v1/snapshots/{id}/restore"), None, &[]).expect(200);
    daemon.rested(server);
    assert_eq!(daemon.delete(&format!("/api/v1/snapshots/{id}")).status, 204);
}

#[test]
fn what_is_wrong_is_refused_with_a_word_and_a_sentence() {
    let site = Site::new();
    let daemon = site.start();
    let server = daemon.make_server("web");
    let snapshots = "/api/v1/snapshots/";
    let long = "x".repeat(65);
    for (body, word) in [
        (json!({"server_id": server}), "invalid"),
        (json!({"name": "a"}), "invalid"),
        (json!({"server_id": "one", "name": "a"}), "invalid"),
        (json!({"server_id": server, "name": ""}), "invalid"),
        (json!({"server_id": server, "name": "a b"}), "invalid"),
        (json!({"server_id": server, "name": "../a"}), "invalid"),
        (json!({"server_id": server, "name": "ä"}), "invalid"),
        (json!({"server_id": server, "name": long}), "invalid"),
        (json!({"server_id": server, "name": "a", "expires_at": "tomorrow"}), "invalid"),
        (json!({"server_id": server, "name": "a", "labels": {"cowblk.hidden": "x"}}), "invalid"),
        (json!([]), "invalid"),
    ] {
        assert_eq!(daemon.post(snapshots, &body).refusal(400), word, "{body}");
    }
    assert_eq!(daemon.post(snapshots, &json!({"server_id": 9999, "name": "a"})).refusal(404), "not_found");
    daemon.make_snapshot(server, "x".repeat(64).as_str());
    daemon.make_snapshot(server, "a_B-1");
    assert_eq!(
        daemon.post(snapshots, &json!({"server_id": server, "name": "a_B-1"})).refusal(400),
        "name_taken"
    );
    assert_eq!(daemon.get("/api/v1/snapshots/?server_id=x").refusal(400), "invalid");
    assert_eq!(daemon.get("/api/v1/servers/?status=happy").refusal(400), "invalid");
    assert_eq!(daemon.get("/api/v1/snapshots/?server_id=9999").expect(200)["count"], json!(0));
    for (method, path) in [("PUT", snapshots), ("DELETE", snapshots), ("GET", "/api/v1/snapshots/1/restore/")]
    {
        let answer = daemon.ask(method, path, None, &[]);
        assert_eq!(answer.refusal(405), "method_not_allowed");
        assert!(answer.head.contains("\r\nallow: "), "{}", answer.head);
    }
    for path in
        ["/api/v1/snapshots/abc/", "/api/v1/snapshots/-1/", "/api/v1/", "/api/v1/nothing/", "/nothing"]
    {
        assert_eq!(daemon.get(path).refusal(404), "not_found", "{path}");
    }
    for path in
        ["/api/v1/snapshots/9999/restore/", "/api/v1/servers/9999/undo/", "/api/v1/servers/9999/start/"]
    {
        assert_eq!(daemon.ask("POST", path, None, &[]).refusal(404), "not_found", "{path}");
    }
}

#[test]
fn five_snapshots_are_five_however_many_ask_at_once() {
    let site = Site::new();
    let daemon = site.start();
    let server = daemon.make_server("web");
    let barrier = Barrier::new(100);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |nth: usize| {
            barrier.wait();
            daemon.post("/api/v1/snapshots/", &json!({"server_id": server, "name": format!("s{nth}")}))
        };
        let threads: Vec<_> = (0..100).map(|nth| scope.spawn(move || ask(nth))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.status == 400 && answer.refusal(400) == "limit_reached")
        .count();
    assert_eq!((made, refused), (5, 95));
    assert_eq!(daemon.settled(server)["count"], json!(5));
    daemon.patch(&format!("/api/v1/servers/{server}/"), &json!({"snapshot_limit": 6})).expect(200);
    daemon.make_snapshot(server, "sixth");
    let seventh = daemon.post("/api/v1/snapshots/", &json!({"server_id": server, "name": "seventh"}));
    assert_eq!(seventh.refusal(400), "limit_reached");
}

#[test]
fn servers_go_through_their_states_and_no_others() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let verb = |word: &str| daemon.ask("POST", &format!("/api/v1/servers/{id}/{word}/"), None, &[]);
    let snapshot = daemon.make_snapshot(id, "a");
    // What each status allows: docs of `flows`.
    for (status, way, allowed) in [
        ("stopped", None, &["start", "suspend"][..]),
        ("active", Some("start"), &["stop", "suspend"]),
        ("suspended", Some("suspend"), &["resume"]),
    ] {
        if let Some(way) = way {
            assert_eq!(verb(way).expect(200)["status"], status);
        }
        assert_eq!(daemon.status_of(id), status);
        for word in ["start", "stop", "suspend", "resume"].iter().filter(|word| !allowed.contains(word)) {
            assert_eq!(verb(word).refusal(400), "wrong_state", "{word} in {status}");
        }
        let list = daemon.get(&format!("/api/v1/servers/?status={status}")).expect(200);
        assert_eq!(list["results"][0]["id"], json!(id));
    }
    let restore = format!("/api/v1/snapshots/{snapshot}/restore/");
    assert_eq!(daemon.ask("POST", &restore, None, &[]).refusal(400), "wrong_state");
    let body = json!({"server_id": id, "name": "b"});
    assert_eq!(daemon.post("/api/v1/snapshots/", &body).refusal(400), "wrong_state");
    verb("resume").expect(200);
    assert_eq!(verb("undo").refusal(400), "wrong_state", "nothing was restored yet");
    daemon.ask("POST", &format!("{restore}?start=true"), None, &[]).expect(200);
    for _ in 0..500 {
        if daemon.status_of(id) == "active" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(daemon.status_of(id), "active");
    assert_eq!(daemon.delete(&format!("/api/v1/servers/{id}/")).refusal(400), "wrong_state");
    verb("stop").expect(200);
    assert_eq!(daemon.delete(&format!("/api/v1/servers/{id}/")).status, 204);
    assert_eq!(daemon.get(&format!("/api/v1/servers/{id}/")).refusal(404), "not_found");
    assert_eq!(daemon.get(&format!("/api/v1/snapshots/{snapshot}/")).refusal(404), "not_found");
}

#[test]
fn a_server_is_made_whole_or_not_at_all() {
    let site = Site::new();
    std::fs::create_dir(site.path("images")).unwrap();
    let image: Vec<u8> = (0..100_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    std::fs::write(site.path("images/small.raw"), &image).unwrap();
    std::fs::write(site.path("secret.raw"), &image).unwrap();
    std::os::unix::fs::symlink(site.path("secret.raw"), site.path("images/link.raw")).unwrap();
    let daemon = site.start_with(&["--allow-images", site.path("images").to_str().unwrap()]);
    let servers = "/api/v1/servers/";
    for (disk, word) in [
        (json!({"name": "vda", "image": site.path("secret.raw")}), "image_not_allowed"),
        (json!({"name": "vda", "image": site.path("images/../secret.raw")}), "image_not_allowed"),
        (json!({"name": "vda", "image": site.path("images/link.raw")}), "image_not_allowed"),
        (json!({"name": "vda", "image": "/etc/passwd"}), "image_not_allowed"),
        (json!({"name": "vda", "image": site.path("images/small.raw"), "size_bytes": 512}), "invalid"),
        (json!({"name": "vda", "size_bytes": 100}), "invalid"),
        (json!({"name": "vda"}), "invalid"),
        (json!({"name": "vda", "snapshot_id": 4711}), "invalid"),
    ] {
        let first = json!({"name": "first", "size_bytes": 4096});
        let answer = daemon.post(servers, &json!({"name": "web", "hostname": "h", "disks": [first, disk]}));
        assert_eq!(answer.refusal(400), word, "{disk}");
        assert_eq!(daemon.get(servers).expect(200)["count"], json!(0), "nothing is left: {disk}");
    }
    let disk = json!({"name": "vda", "image": site.path("images/small.raw"), "size_bytes": 1 << 20});
    let body = json!({"name": "web", "hostname": "web.example.org", "os": "Debian 13", "ip_address": "192.0.2.7",
        "plan": {"storage": 80, "ram": 4096}, "labels": {"team": "a"}, "disks": [disk]});
    let made = daemon.post(servers, &body).expect(201);
    assert_eq!(
        (made["hostname"].as_str(), made["os"].as_str()),
        (Some("web.example.org"), Some("Debian 13"))
    );
    assert_eq!(made["plan"], json!({"storage": 80, "ram": 4096}));
    assert_eq!(made["labels"], json!({"team": "a"}));
    assert_eq!(daemon.post(servers, &body).refusal(400), "name_taken");
    let id = made["id"].as_u64().unwrap();
    let snapshot = daemon.make_snapshot(id, "a");
    let clone =
        daemon.post(&format!("/api/v1/snapshots/{snapshot}/clone/"), &json!({"name": "web-2"})).expect(201);
    assert_eq!(clone["origin"], json!(snapshot));
    let wanted = json!({"name": "web-3", "id": 500_000, "snapshot_id": snapshot});
    assert_eq!(daemon.post(servers, &wanted).expect(201)["id"], json!(500_000));
    assert_eq!(daemon.post(servers, &json!({"name": "web-4", "id": 400_000})).refusal(400), "name_taken");
    let grown = daemon.patch(&format!("/api/v1/servers/{id}/disks/vda/"), &json!({"size_bytes": 2 << 20}));
    assert_eq!(grown.expect(200)["size_bytes"], json!(2 << 20));
    let odd = daemon.patch(&format!("/api/v1/servers/{id}/disks/vda/"), &json!({"size_bytes": 513}));
    assert_eq!(odd.refusal(400), "invalid");
    assert_eq!(daemon.stop(), Some(0));
    // What was imported is there, in all of them.
    for server in ["web", "web-2", "web-3"] {
        let output = site.cowblk(&["disk", "export", &format!("{server}/vda"), "-"]).output().unwrap();
        assert_eq!(output.stdout.get(..image.len()), Some(&image[..]), "{server}");
    }
}

#[test]
fn what_lies_beyond_the_given_api_works() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let first = daemon.make_snapshot(id, "first");
    let second = daemon.make_snapshot(id, "second");
    daemon.settled(id);
    let freed = daemon.get(&format!("/api/v1/would-free/?ids={first},{second}")).expect(200);
    assert_eq!(freed["data_bytes"], json!(0));
    assert_eq!(daemon.get("/api/v1/would-free/?ids=1,x").refusal(400), "invalid");
    let freed = daemon.get(&format!("/api/v1/would-free/?server_id={id}")).expect(200);
    assert_eq!((&freed["ids"], &freed["data_bytes"]), (&json!([first, second]), &json!(0)));
    assert_eq!(daemon.get("/api/v1/would-free/").refusal(400), "invalid");
    assert_eq!(daemon.get("/api/v1/would-free/?server_id=999999").refusal(404), "not_found");
    let changes = daemon.get(&format!("/api/v1/snapshots/{second}/changes/?since={first}")).expect(200);
    assert_eq!((changes["count"].as_u64(), &changes["results"][0]["changes"]), (Some(1), &json!([])));
    let path = format!("/api/v1/snapshots/{first}/");
    assert_eq!(daemon.patch(&path, &json!({"protected": true})).expect(200)["protected"], json!(true));
    assert_eq!(daemon.delete(&path).refusal(400), "protected");
    let plan = daemon.get(&format!("/api/v1/servers/{id}/prune/?last=1")).expect(200);
    let kept: Vec<_> = plan["results"].as_array().unwrap().iter().map(|one| one["kept"].clone()).collect();
    assert_eq!(kept, [json!(true), json!(true)]);
    daemon.patch(&path, &json!({"protected": false})).expect(200);
    let pruned = daemon.post(&format!("/api/v1/servers/{id}/prune/"), &json!({"last": 1})).expect(200);
    assert_eq!(pruned["results"][1]["kept"], json!(false));
    assert_eq!(daemon.get(&path).refusal(404), "not_found");
    assert_eq!(daemon.get("/api/v1/space/").expect(200)["servers"], json!(1));
    daemon.get("/api/v1/collector/").expect(200);
    let stats = daemon.get("/api/v1/stats/").expect(200);
    let timed = stats["latencies"]["device_sync"]["count"].as_u64().unwrap();
    assert!(timed > 0 && stats["latencies"]["flush"]["p99_ns"].as_u64().unwrap() > 0, "{stats}");
    assert!(
        stats["device_syncs"].as_u64().unwrap() >= timed && stats["waits"]["journal"]["count"] == 0,
        "{stats}"
    );
    let metrics = daemon.get("/metrics");
    for name in [
        "cowblk_store_snapshots 1",
        "cowblk_http_request_seconds_bucket",
        "cowblk_device_syncs_total",
        "cowblk_device_sync_seconds_bucket{le=\"0.000000256\"}",
    ] {
        assert!(metrics.text.contains(name), "{name} in {}", metrics.text);
    }
    let document = daemon.raw("GET", "/api/v1/openapi.json", b"", &[]).expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in ["/api/v1/snapshots/{id}/restore/", "/api/v1/servers/{id}/disks/{disk}/"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

/// A deleted snapshot that several disks go on from stays hidden until they are gone; the collector has nothing to do with it meanwhile.
#[test]
fn the_collector_comes_to_an_end() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let snapshot = daemon.make_snapshot(id, "golden");
    for name in ["a", "b"] {
        daemon.post(&format!("/api/v1/snapshots/{snapshot}/clone/"), &json!({"name": name})).expect(201);
    }
    assert_eq!(daemon.delete(&format!("/api/v1/snapshots/{snapshot}/")).status, 204);
    daemon.ask("POST", "/api/v1/collector/", None, &[]).expect(200);
    let left = daemon.get("/api/v1/collector/").expect(200);
    assert_eq!((&left["waiting_versions"], &left["waiting_bytes"]), (&json!(0), &json!(0)));
    assert_eq!(left["collected_blocks"], json!(0), "nobody wrote a block");
    assert!(daemon.get("/metrics").text.contains("\ncowblk_collector_waiting_versions 0\n"));
    daemon.ask("POST", "/api/v1/trim/", None, &[]).expect(200);
}

/// A clone goes back to its origin, stopped first; what was not cloned does not. Changes are told since any snapshot.
#[test]
fn clones_are_reset_and_changes_told() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let snapshot = daemon.make_snapshot(id, "golden");
    let path = format!("/api/v1/snapshots/{snapshot}/clone/");
    let clone = daemon.post(&path, &json!({"name": "clone"})).expect(201)["id"].as_u64().unwrap();
    let disk = format!("/api/v1/servers/{clone}/disks/vda/");
    daemon.patch(&disk, &json!({"size_bytes": 16 << 20, "when_full_wait_seconds": 5})).expect(200);
    daemon.ask("POST", &format!("/api/v1/servers/{clone}/start/"), None, &[]).expect(200);
    let reset = daemon.ask("POST", &format!("/api/v1/servers/{clone}/reset/"), None, &[]).expect(200);
    assert_eq!((&reset["disks"][0]["size_bytes"], &reset["origin"]), (&json!(8 << 20), &json!(snapshot)));
    assert_eq!(daemon.rested(clone), "stopped", "it was stopped first");
    let refused = daemon.ask("POST", &format!("/api/v1/servers/{id}/reset/"), None, &[]);
    assert_eq!(refused.refusal(400), "wrong_state");
    assert_eq!(daemon.patch(&disk, &json!({})).refusal(400), "invalid");
    daemon.patch(&format!("/api/v1/servers/{id}/disks/vda/"), &json!({"size_gb": 1})).expect(200);
    let changes = daemon.get(&format!("/api/v1/servers/{id}/changes/")).expect(200);
    let one = &changes["results"][0];
    assert_eq!((&one["since"], &one["older_size_bytes"]), (&json!(snapshot), &json!(8 << 20)));
    assert_eq!((&one["size_bytes"], &one["data_bytes"]), (&json!(1 << 30), &json!(0)));
    let back = daemon.get(&format!("/api/v1/servers/{id}/changes/?reverse=true")).expect(200);
    assert_eq!(back["results"][0]["size_bytes"], json!(8 << 20), "back to the snapshot");
    let whole = daemon.get(&format!("/api/v1/servers/{id}/changes/?whole=true")).expect(200);
    assert_eq!(
        (&whole["results"][0]["since"], &whole["results"][0]["older_size_bytes"]),
        (&Value::Null, &Value::Null)
    );
    let both = daemon.get(&format!("/api/v1/servers/{id}/changes/?whole=true&since={snapshot}"));
    assert_eq!(both.refusal(400), "invalid");
    let wrong = daemon.get(&format!("/api/v1/servers/{clone}/changes/?since={snapshot}"));
    assert_eq!(wrong.refusal(400), "invalid", "a snapshot of another server");
    let server = format!("/api/v1/servers/{id}/");
    let limited = daemon.patch(&server, &json!({"snapshot_limit": 1, "max_disk_bytes": 1 << 30})).expect(200);
    assert_eq!((&limited["snapshot_limit"], &limited["max_disk_bytes"]), (&json!(1), &json!(1 << 30)));
    let body = json!({"server_id": id, "name": "more"});
    assert_eq!(daemon.post("/api/v1/snapshots/", &body).refusal(400), "limit_reached");
    let disk = json!({"name": "vdb", "size_bytes": 4096});
    assert_eq!(daemon.post(&format!("{server}disks/"), &disk).refusal(400), "limit_reached");
    let free = daemon.patch(&server, &json!({"snapshot_limit": null, "max_disk_bytes": null})).expect(200);
    assert_eq!((&free["snapshot_limit"], &free["max_disk_bytes"]), (&json!(5), &Value::Null));
    daemon.post("/api/v1/snapshots/", &body).expect(201);
}

#[test]
fn a_post_with_a_key_is_done_once() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let (path, key) = ("/api/v1/snapshots/", [("Idempotency-Key", "k-1")]);
    let body = json!({"server_id": id, "name": "a"});
    let first = daemon.ask("POST", path, Some(&body), &key).expect(201);
    let again = daemon.ask("POST", path, Some(&body), &key);
    assert!(again.head.contains("idempotent-replayed: true"), "{}", again.head);
    assert_eq!(again.expect(201), first);
    let other = json!({"server_id": id, "name": "b"});
    assert_eq!(daemon.ask("POST", path, Some(&other), &key).refusal(422), "key_reused");
    // What did nothing can be sent again.
    let wrong = json!({"server_id": 9999, "name": "b"});
    let key = [("Idempotency-Key", "k-2")];
    assert_eq!(daemon.ask("POST", path, Some(&wrong), &key).refusal(404), "not_found");
    daemon.ask("POST", path, Some(&other), &key).expect(201);
    assert_eq!(daemon.settled(id)["count"], json!(2));
}

//! Who gets in, how much is believed, and what is left behind in files.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::daemon::Site;

#[test]
fn nobody_gets_in_without_a_token() {
    let site = Site::new();
    let daemon = site.start();
    let wrong = format!("Bearer {}", "0".repeat(71));
    let schemed = format!("Basic {}", site.token);
    for (method, path) in [
        ("GET", "/api/v1/snapshots/"),
        ("POST", "/api/v1/snapshots/"),
        ("POST", "/api/v1/snapshots/1/restore/"),
        ("DELETE", "/api/v1/snapshots/1/"),
        ("GET", "/api/v1/servers/"),
        ("GET", "/api/v1/nothing/"),
        ("PUT", "/api/v1/servers/"),
        ("GET", "/metrics"),
    ] {
        for header in
            [None, Some(("Authorization", wrong.as_str())), Some(("Authorization", schemed.as_str()))]
        {
            let headers: Vec<(&str, &str)> = header.into_iter().collect();
            let answer = daemon.raw(method, path, b"", &headers);
            assert!(answer.status == 401 || answer.status == 429, "{method} {path}: {}", answer.status);
        }
    }
    assert_eq!(daemon.raw("GET", "/api/v1/servers/", b"", &[]).refusal(429), "too_many_failures");
    daemon.get("/api/v1/servers/").expect(200); // whoever has a token is not locked out
    assert_eq!(daemon.raw("GET", "/healthz", b"", &[]).expect(200), json!({"status": "ok"}));
}

#[test]
fn a_token_does_what_its_scopes_say_until_it_is_revoked() {
    let site = Site::new();
    let daemon = site.start();
    let reader = format!("Bearer {}", site.make_token(&["reader", "--scope", "read"]));
    let writer = format!("Bearer {}", site.make_token(&["writer", "--scope", "write"]));
    let ask =
        |method: &str, token: &str| daemon.raw(method, "/api/v1/servers/", b"", &[("Authorization", token)]);
    ask("GET", &reader).expect(200);
    assert_eq!(ask("POST", &reader).refusal(403), "forbidden");
    assert_eq!(ask("GET", &writer).refusal(403), "forbidden");
    assert_eq!(ask("POST", &writer).refusal(400), "invalid");
    assert!(site.cowblk(&["token", "revoke", "reader"]).output().unwrap().status.success());
    assert_eq!(ask("GET", &reader).refusal(401), "unauthorized");
    let list = site.cowblk(&["--json", "token", "list"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&list.stdout).contains("cowblk_"));
}

#[test]
fn what_is_too_large_or_no_json_is_refused() {
    let site = Site::new();
    let daemon = site.start();
    let authorization = format!("Bearer {}", site.token);
    let token = ("Authorization", authorization.as_str());
    let kind = ("Content-Type", "application/json");
    let path = "/api/v1/snapshots/";
    let big = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    assert_eq!(daemon.raw("POST", path, big.as_bytes(), &[token, kind]).refusal(413), "too_large");
    let keyed = [token, kind, ("Idempotency-Key", "a")];
    assert_eq!(daemon.raw("POST", path, big.as_bytes(), &keyed).refusal(413), "too_large");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonish"] {
        let answer = daemon.raw("POST", path, b"{}", &[token, ("Content-Type", kind)]);
        assert_eq!(answer.refusal(415), "unsupported_media_type", "{kind}");
    }
    assert_eq!(daemon.raw("POST", path, b"{}", &[token]).refusal(415), "unsupported_media_type");
    assert_eq!(daemon.raw("POST", path, b"", &[token, kind]).refusal(400), "invalid");
    assert_eq!(daemon.raw("POST", path, b"{\"a\":", &[token, kind]).refusal(400), "invalid");
    let nested = "[".repeat(10_000);
    assert_eq!(daemon.raw("POST", path, nested.as_bytes(), &[token, kind]).refusal(400), "invalid");
    let long = "x".repeat(60_000);
    let answer = daemon.raw("GET", "/healthz", b"", &[("X-Long", &long)]);
    assert_eq!(answer.status, 431);
    daemon.raw("GET", "/healthz", b"", &[]).expect(200);
}

#[test]
fn nothing_secret_is_left_in_files_that_others_can_read() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    daemon.delete(&format!("/api/v1/servers/{id}/"));
    daemon.raw("POST", "/api/v1/servers/?token=x", b"", &[]);
    assert_eq!(daemon.stop(), Some(0));
    let state = site.path("pool.cow.serve");
    assert_eq!(state.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
            let bytes = std::fs::read(&path).unwrap();
            let secret = site.token.as_bytes();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
    let log = std::fs::read_to_string(state.join("audit.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let brief: Vec<_> =
        lines.iter().map(|line| (line["method"].as_str().unwrap(), line["status"].as_u64())).collect();
    assert_eq!(brief, [("POST", Some(201)), ("DELETE", Some(204)), ("POST", Some(401))]);
    assert_eq!(lines[0]["token_name"], "test");
    assert_eq!(lines[2]["token_id"], serde_json::Value::Null);
}

#[test]
fn plain_http_beyond_this_machine_is_refused() {
    let site = Site::new();
    let output = site.cowblk(&["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--tls-cert"));
}

/// A stop in the midst of a request: it is finished and answered, and the store is closed cleanly.
#[test]
fn a_stop_finishes_what_is_under_way() {
    let site = Site::new();
    let daemon = site.start();
    let id = daemon.make_server("web");
    let body = json!({"server_id": id, "name": "late"}).to_string();
    let mut stream = TcpStream::connect(&daemon.address).unwrap();
    let head = format!(
        "POST /api/v1/snapshots/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        site.token,
        body.len()
    );
    let (begin, rest) = body.split_at(5);
    stream.write_all(format!("{head}{begin}").as_bytes()).unwrap();
    daemon.raw("GET", "/healthz", b"", &[]).expect(200); // the daemon has accepted the connection before this one
    daemon.tell_to_stop();
    std::thread::sleep(std::time::Duration::from_millis(100));
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(daemon.wait(), Some(0));
    let list = site.cowblk(&["snapshot", "list", "web"]).output().unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).contains("late"));
    assert!(site.cowblk(&["check"]).output().unwrap().status.success());
}

#[test]
fn tls_is_spoken_where_there_is_a_certificate() {
    let site = Site::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(site.path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(site.path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (site.path("cert.pem"), site.path("key.pem"));
    let daemon = site.start_with(&["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let port = daemon.address.rsplit_once(':').unwrap().1;
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sS", "--cacert"])
        .arg(&cert)
        .arg("--connect-to")
        .arg(format!("localhost:{port}:127.0.0.1:{port}"));
    let Ok(output) = curl.arg(format!("https://localhost:{port}/healthz")).output() else {
        return println!("skipped: there is no curl");
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"status\":\"ok\"}", "{output:?}");
    assert!(daemon.try_raw("GET", "/healthz", b"", &[]).is_err(), "nothing is served in the open");
}

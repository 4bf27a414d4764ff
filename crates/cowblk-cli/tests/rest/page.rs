//! The page in a real browser: signed in to, clicked through, and asked what it shows. Skips where Chromium or node is missing.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::daemon::Site;

fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("COWBLK_CHROMIUM").map(PathBuf::from);
    let known =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].map(PathBuf::from);
    named.into_iter().chain(known).find(|path| path.exists())
}

#[test]
fn the_page_does_in_a_browser_what_it_says() {
    let Some(browser) = browser() else {
        return println!("skipped: there is no chromium");
    };
    let site = Site::new();
    let daemon = site.start();
    let body = json!({"name": "web-1", "status": "active", "disks": [{"name": "vda", "size_gb": 1}]});
    let id = daemon.post("/api/v1/servers/", &body).expect(201)["id"].as_u64().unwrap();
    daemon.make_snapshot(id, "first");
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rest/examples/page.js");
    let mut command = Command::new("node");
    command.arg(script).arg(browser).arg(daemon.url()).arg(&site.token).arg(site.path("profile"));
    let output = match command.output() {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return println!("skipped: there is no node");
        }
        output => output.unwrap(),
    };
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("done\n"), "{said}\n{errors}");
    let list = daemon.settled(id);
    assert_eq!((list["count"].as_u64(), list["results"][0]["name"].as_str()), (Some(1), Some("second")));
    assert_eq!(daemon.rested(id), "stopped");
}

/// Whatever the pages load is in the binary, and their policy says so.
#[test]
fn the_pages_ask_nobody_else() {
    let site = Site::new();
    let daemon = site.start();
    for path in ["/", "/docs", "/app.js", "/docs.js", "/style.css"] {
        let answer = daemon.raw("GET", path, b"", &[]);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{}", answer.head);
        let outside = answer.text.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http://") && !outside.contains("https://"), "{path} names another host");
        assert!(!answer.text.contains("innerHTML") && !answer.text.contains("style=\""), "{path}");
    }
}

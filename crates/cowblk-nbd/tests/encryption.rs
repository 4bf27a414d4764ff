//! TLS, with certificates made for the occasion, and the clients of others.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test stops where it is surprised")]

mod client;

use client::{Bench, Client, ask_option, greet, noise};
use cowblk_nbd::codec::{OptionCode, Style, answer};
use cowblk_nbd::{Event, Observer, Settings, TlsSettings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Fills folders with what a server, a client, and a client of somebody else have.
fn certificates(folder: &Path) {
    let authority = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, key))
    };
    let ((ours, our_issuer), (_, other_issuer)) = (authority("ours"), authority("another"));
    for (whose, role, issuer) in [
        ("server", "server", &our_issuer),
        ("client", "client", &our_issuer),
        ("stranger", "client", &other_issuer),
    ] {
        let home = folder.join(whose);
        fs::create_dir(&home).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, issuer).unwrap();
        fs::write(home.join("ca-cert.pem"), &ours).unwrap();
        fs::write(home.join(format!("{role}-cert.pem")), certificate.pem()).unwrap();
        fs::write(home.join(format!("{role}-key.pem")), key.serialize_pem()).unwrap();
    }
}

fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        println!("SKIPPED: {tool} is not installed");
    }
    found
}

fn bench(folder: &Path) -> Bench {
    heard_bench(folder).0
}

/// The same, with what its observer heard.
fn heard_bench(folder: &Path) -> (Bench, Arc<Mutex<Vec<Event>>>) {
    certificates(folder);
    let tls = TlsSettings::from_folder(&folder.join("server")).unwrap();
    assert!(tls.asks_clients());
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let listener = heard.clone();
    let observer: Observer = Arc::new(move |event: &Event| listener.lock().unwrap().push(event.clone()));
    let settings = Settings { tls: Some(tls), observer: Some(observer), ..Settings::default() };
    (Bench::with(16 << 20, settings), heard)
}

#[test]
fn without_tls_nothing_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let refused = Client::open(&bench.socket(), Style::Simple, "web/vda", &[]).err().unwrap();
    assert!(refused.to_string().contains("TLS"), "{refused}");

    let mut stream = greet(&bench.socket()).unwrap();
    assert_eq!(ask_option(&mut stream, OptionCode::List, &[]).unwrap()[0].0, answer::TLS_REQUIRED);
    assert_eq!(ask_option(&mut stream, OptionCode::StartTls, &[]).unwrap()[0].0, answer::ACK);
    stream.write_all(b"this is no handshake, but it is long enough to be taken for one").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest); // an alert at most, and the end
    assert!(rest.len() < 64, "{rest:?}");
}

/// What somebody puts behind STARTTLS before the handshake must not count as said in TLS.
#[test]
fn words_between_the_clear_and_tls_end_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let (bench, heard) = heard_bench(folder.path());
    let mut stream = greet(&bench.socket()).unwrap();
    let mut bytes = Vec::new();
    cowblk_nbd::codec::OptionHead::encode(OptionCode::StartTls, &[], &mut bytes);
    cowblk_nbd::codec::OptionHead::encode(OptionCode::List, &[], &mut bytes);
    stream.write_all(&bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest); // the reply to STARTTLS, and the end
    assert!(rest.len() <= 20, "{rest:?}");
    let why = "the client did not wait for TLS to begin".to_owned();
    while heard.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(*heard.lock().unwrap(), [Event::Ended { connection: 0, why }]);
}

#[test]
fn libnbd_and_qemu_speak_it() {
    if !has("nbdcopy") || !has("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path());
    let image = folder.path().join("image.raw");
    fs::write(&image, noise(1, 16 << 20)).unwrap();
    let uri = |whose: &str| {
        let home = folder.path().join(whose);
        format!(
            "nbds+unix://localhost/web/vda?socket={}&tls-certificates={}",
            bench.socket().display(),
            home.display()
        )
    };
    let copied = Command::new("nbdcopy")
        .args(["--flush", "--requests=32"])
        .arg(&image)
        .arg(uri("client"))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let back = folder.path().join("back.raw");
    fs::write(&back, b"").unwrap();
    let copied = Command::new("nbdcopy").arg(uri("client")).arg(&back).output().unwrap();
    assert!(copied.status.success() && fs::read(&back).unwrap() == noise(1, 16 << 20), "{copied:?}");
    let refused = Command::new("nbdcopy").arg(uri("stranger")).arg(&back).output().unwrap();
    assert!(!refused.status.success(), "a certificate that somebody else signed");

    let credentials =
        format!("tls-creds-x509,id=tls,endpoint=client,dir={}", folder.path().join("client").display());
    let options = format!(
        "driver=nbd,server.type=unix,server.path={},export=web/vda,tls-creds=tls,tls-hostname=localhost",
        bench.socket().display()
    );
    let compared = Command::new("qemu-img")
        .args(["compare", "--object", &credentials, "--image-opts", &options])
        .arg(format!("driver=raw,file.driver=file,file.filename={}", image.display()))
        .output()
        .unwrap();
    assert!(compared.status.success(), "{compared:?}");
}

#[test]
fn a_folder_without_certificates_is_refused_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = TlsSettings::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("server-cert.pem"), "{error}");
}

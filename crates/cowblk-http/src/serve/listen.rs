//! Listen: sockets, TLS, and one task per connection.

use super::settings::{Address, Certificate, Settings};
use crate::gate::Peer;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Connections of one listener at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes of a request's line and headers, at most.
const HEAD_BYTES_MAX: usize = 32 << 10;
const HEADERS_MAX: usize = 64;
/// How long a client may take for a request's line and headers, and say nothing between two requests.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a client may take for the handshake of TLS.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long to wait after the system refused a new connection, for want of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket.
pub(super) enum Listening {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix(UnixListener, Address),
}

impl Listening {
    /// Its URL.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Tcp(listener, tls) => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                listener
                    .local_addr()
                    .map_or_else(|_| scheme.to_owned(), |address| format!("{scheme}://{address}"))
            }
            Self::Unix(_, address) => address.to_string(),
        }
    }
}

/// Binds all addresses.
pub(super) async fn bind(settings: &Settings) -> io::Result<Vec<Listening>> {
    let tls = settings.certificate.as_ref().map(acceptor).transpose()?;
    let mut all = Vec::new();
    for address in &settings.addresses {
        let bound = match address {
            Address::Tcp(socket) => {
                TcpListener::bind(socket).await.map(|one| Listening::Tcp(one, tls.clone()))
            }
            Address::Unix(path) => bind_unix(path).await.map(|one| Listening::Unix(one, address.clone())),
        };
        all.push(
            bound.map_err(|cause| io::Error::new(cause.kind(), format!("listen at {address}: {cause}")))?,
        );
    }
    Ok(all)
}

/// Binds a path, in place of a socket that a process left behind which is gone.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let refused = UnixStream::connect(path).await.err().map(|error| error.kind());
            let is_socket = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
            if refused == Some(io::ErrorKind::ConnectionRefused) && is_socket {
                std::fs::remove_file(path)?;
                return UnixListener::bind(path);
            }
            Err(error)
        }
        bound => bound,
    }
}

fn acceptor(certificate: &Certificate) -> io::Result<TlsAcceptor> {
    let Certificate { chain, key } = certificate;
    let read = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
    let certificates: Vec<CertificateDer<'static>> = read.map_err(|error| said(chain, error))?;
    if certificates.is_empty() {
        return Err(said(chain, "it holds no certificate"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| said(key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(certificates, secret)
        .map_err(|error| said(chain, error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn said(path: &Path, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Takes connections until the daemon closes, then waits until they are done.
pub(super) async fn accept_all(listening: Listening, router: Router, mut closing: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let (router, end) = (router.clone(), closing.clone());
        let accepted = tokio::select! {
            accepted = accept(&listening) => accepted,
            _ = closing.changed() => break,
        };
        match accepted {
            Ok(Accepted::Tcp(stream, peer)) => match &listening {
                Listening::Tcp(_, Some(tls)) => {
                    let tls = tls.clone();
                    connections.spawn(async move {
                        if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream)).await
                        {
                            serve(stream, peer, router, end).await;
                        }
                        drop(slot);
                    });
                }
                _ => drop(connections.spawn(async move {
                    serve(stream, peer, router, end).await;
                    drop(slot);
                })),
            },
            Ok(Accepted::Unix(stream)) => drop(connections.spawn(async move {
                serve(stream, Peer::Local, router, end).await;
                drop(slot);
            })),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    if let Listening::Unix(_, Address::Unix(path)) = &listening {
        // Somebody may have taken it away already.
        let _ = std::fs::remove_file(path);
    }
    drop(listening);
    while connections.join_next().await.is_some() {}
}

enum Accepted {
    Tcp(tokio::net::TcpStream, Peer),
    Unix(UnixStream),
}

async fn accept(listening: &Listening) -> io::Result<Accepted> {
    match listening {
        Listening::Tcp(listener, _) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Accepted::Tcp(stream, Peer::Address(address.ip().to_canonical())))
        }
        Listening::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
    }
}

/// Serves one connection. When the daemon closes, it ends behind the request that is under way.
async fn serve<S>(stream: S, peer: Peer, router: Router, mut closing: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        add_slash(request.uri_mut());
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is its client's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// An address of the API without its last slash means the same as with it, body and all.
fn add_slash(uri: &mut Uri) {
    let path = uri.path();
    if !path.starts_with("/api/") || path.ends_with('/') || path == "/api/v1/openapi.json" {
        return;
    }
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    if let Ok(whole) = format!("{path}/{query}").parse() {
        parts.path_and_query = Some(whole);
        if let Ok(changed) = Uri::from_parts(parts) {
            *uri = changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slash_of_an_address_makes_no_difference() {
        for (given, meant) in [
            ("/api/v1/snapshots?server_id=1", "/api/v1/snapshots/?server_id=1"),
            ("/api/v1/snapshots/", "/api/v1/snapshots/"),
            ("/api/v1/openapi.json", "/api/v1/openapi.json"),
            ("/docs", "/docs"),
        ] {
            let mut uri: Uri = given.parse().unwrap();
            add_slash(&mut uri);
            assert_eq!(uri.to_string(), meant);
        }
    }
}

//! Client: asks a daemon, from a program that does nothing meanwhile. One connection for each request.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Bytes of an answer that are believed.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// How long an answer is waited for.
const ANSWER_TIME: Duration = Duration::from_hours(1);
/// The authorities that the system trusts, where Linux keeps them.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why there is no answer, or not the one that was wished for.
#[derive(Debug)]
pub enum Error {
    /// The address is none, or the daemon cannot be reached; a sentence.
    Unreachable(String),
    /// The daemon refused.
    Refused {
        /// The status of HTTP.
        status: u16,
        /// A stable word.
        code: String,
        /// What was wrong and what to do.
        detail: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(sentence) => f.write_str(sentence),
            Self::Refused { detail, .. } => f.write_str(detail),
        }
    }
}

impl std::error::Error for Error {}

#[derive(Clone, Debug)]
enum Place {
    Tcp { host: String, port: u16, is_secret: bool },
    Unix(PathBuf),
}

/// Asks one daemon.
pub struct Client {
    place: Place,
    token: String,
    authorities: Option<PathBuf>,
    runtime: tokio::runtime::Runtime,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Client {
    /// For the daemon at `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. `authorities` is a file (PEM) of those who
    /// may have signed its certificate, instead of those that the system trusts.
    ///
    /// # Errors
    /// `Unreachable` for an address that is none.
    pub fn new(url: &str, token: &str, authorities: Option<&Path>) -> Result<Self, Error> {
        let place = parse(url)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| Error::Unreachable(format!("start a runtime: {cause}")))?;
        Ok(Self { place, token: token.to_owned(), authorities: authorities.map(Path::to_owned), runtime })
    }

    /// Sends one request below `/api/v1/`. The answer's body; null if there is none.
    ///
    /// # Errors
    /// `Unreachable`, `Refused`.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let late = |_| Error::Unreachable("the daemon did not answer within an hour".into());
        self.runtime.block_on(async {
            tokio::time::timeout(ANSWER_TIME, self.exchange(method, path, body)).await.map_err(late)?
        })
    }

    async fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        match &self.place {
            Place::Unix(socket) => {
                let stream = UnixStream::connect(socket).await;
                self.send(stream.map_err(|cause| self.unreachable(&cause))?, method, path, body).await
            }
            Place::Tcp { host, port, is_secret } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(|cause| self.unreachable(&cause))?;
                if !is_secret {
                    return self.send(stream, method, path, body).await;
                }
                let name = ServerName::try_from(host.clone()).map_err(|cause| self.unreachable(&cause))?;
                let connector = tokio_rustls::TlsConnector::from(self.tls()?);
                let stream = connector.connect(name, stream).await;
                self.send(stream.map_err(|cause| self.unreachable(&cause))?, method, path, body).await
            }
        }
    }

    fn tls(&self) -> Result<Arc<rustls::ClientConfig>, Error> {
        let system = SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.exists());
        let path = self.authorities.clone().or(system);
        let path =
            path.ok_or_else(|| Error::Unreachable("no file of certificate authorities was found".into()))?;
        let wrong = |cause: &dyn fmt::Display| Error::Unreachable(format!("{}: {cause}", path.display()));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|cause| wrong(&cause))? {
            // The system's file may hold some that this library does not know.
            let _ = roots.add(certificate.map_err(|cause| wrong(&cause))?);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(Arc::new(
            builder.map_err(|cause| wrong(&cause))?.with_root_certificates(roots).with_no_client_auth(),
        ))
    }

    async fn send<S>(&self, stream: S, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|cause| self.unreachable(&cause))?;
        let driving = tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(method).uri(format!("/api/v1/{path}"));
        let host = match &self.place {
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".into(),
        };
        request = request
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(text))).map_err(|cause| self.unreachable(&cause))?;
        let answer = sender.send_request(request).await.map_err(|cause| self.unreachable(&cause))?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let bytes = bytes.map_err(|cause| self.unreachable(&*cause))?.to_bytes();
        driving.abort();
        if status.is_success() {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&bytes).map_err(|cause| self.unreachable(&cause));
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let detail = word("detail").unwrap_or_else(|| format!("the daemon answered {status}"));
        Err(Error::Refused { status: status.as_u16(), code: word("error").unwrap_or_default(), detail })
    }

    fn unreachable(&self, cause: &(impl fmt::Display + ?Sized)) -> Error {
        let place = match &self.place {
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(path) => path.display().to_string(),
        };
        Error::Unreachable(format!("the daemon at {place} cannot be reached: {cause}"))
    }
}

fn parse(url: &str) -> Result<Place, Error> {
    if let Some(path) = url.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Place::Unix(path.into()));
    }
    let wrong = || {
        Error::Unreachable(format!(
            "`{url}` is no address: write http://HOST:PORT, https://HOST:PORT or unix:PATH"
        ))
    };
    let parsed: hyper::Uri = url.trim_end_matches('/').parse().map_err(|_| wrong())?;
    let is_secret = match parsed.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong()),
    };
    let host = parsed.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
    let port = parsed.port_u16().unwrap_or(if is_secret { 443 } else { 80 });
    if parsed.path().len() > 1 { Err(wrong()) } else { Ok(Place::Tcp { host, port, is_secret }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_the_daemon_prints() {
        for fine in
            ["http://127.0.0.1:8780", "http://[::1]:8780/", "https://pool.example.org", "unix:/run/a.sock"]
        {
            assert!(parse(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "unix:", "127.0.0.1:8780", "ftp://a", "http://a/b", "http://"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}

//! TLS: the certificate of the server, and whose clients it trusts.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a server needs for TLS.
#[derive(Clone)]
pub struct TlsSettings {
    pub(crate) config: Arc<ServerConfig>,
    asks_clients: bool,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").field("asks_clients", &self.asks_clients).finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// Reads the folder that QEMU and nbdkit read, too: `server-cert.pem` and `server-key.pem`. Where
    /// `ca-cert.pem` is there as well, every client must show a certificate that it signed; where it is not,
    /// the connection is secret, and open to anyone.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn from_folder(folder: &Path) -> io::Result<Self> {
        let certificates = certificates(&folder.join("server-cert.pem"))?;
        let key_path = folder.join("server-key.pem");
        let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|error| said(&key_path, error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| said(folder, error))?;
        let authority_path = folder.join("ca-cert.pem");
        let asks_clients = authority_path.exists();
        let builder = if asks_clients {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(&authority_path)? {
                roots.add(certificate).map_err(|error| said(&authority_path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| said(&authority_path, error))?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(certificates, key).map_err(|error| said(folder, error))?;
        Ok(Self { config: Arc::new(config), asks_clients })
    }

    /// Whether clients must show a certificate.
    pub fn asks_clients(&self) -> bool {
        self.asks_clients
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| said(path, error))?;
    if certificates.is_empty() { Err(said(path, "it holds no certificate")) } else { Ok(certificates) }
}

fn said(path: &Path, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

//! Tokens: who may come in. A file of hashes, read again whenever it changed, so that a revocation needs no restart.
//!
//! A token is 32 random bytes. Only its BLAKE3 hash is kept; it is compared with all hashes, each in constant time.

use super::files;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tokens of one daemon, at most.
const TOKENS_MAX: usize = 10_000;
const PREFIX: &str = "cowblk_";

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To look.
    Read,
    /// To change.
    Write,
}

/// What is kept of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    hash: String,
    scopes: Vec<Scope>,
    created_at: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct Book {
    next_id: u64,
    tokens: Vec<Record>,
}

/// What can be shown of a token.
#[derive(Clone, Debug, Serialize)]
pub struct TokenView {
    /// Its number, never used again.
    pub id: u64,
    /// What it was made for.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// In UTC seconds since 1970.
    pub created_at: u64,
}

/// A token that was just made: the only moment at which its text is known.
#[derive(Clone, Debug, Serialize)]
pub struct NewToken {
    /// What is kept of it.
    #[serde(flatten)]
    pub view: TokenView,
    /// What clients send.
    pub token: String,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) id: u64,
    pub(crate) name: String,
    scopes: Vec<Scope>,
}

impl Holder {
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// What tells one state of the file from the next: it is only ever replaced as a whole.
type Stamp = Option<(u64, i64, i64, u64)>;

struct Known {
    stamp: Stamp,
    holders: Vec<(blake3::Hash, Holder)>,
}

/// The tokens of a daemon.
pub struct Tokens {
    path: PathBuf,
    known: RwLock<Arc<Known>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tokens {
    /// The tokens in a state folder, which is made if it is missing.
    ///
    /// # Errors
    /// What the file system says; a token file that others can read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        files::make_folder(folder)?;
        let path = folder.join("tokens.json");
        let tokens = Self { path, known: RwLock::new(Arc::new(Known { stamp: None, holders: Vec::new() })) };
        tokens.refresh()?;
        Ok(tokens)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// What the file system says; a name that is empty or longer than 64 characters.
    pub fn create(&self, name: &str, scopes: &[Scope], now: u64) -> io::Result<NewToken> {
        let length = name.chars().count();
        if length == 0 || length > 64 || name.chars().any(char::is_control) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a token's name is 1 to 64 characters"));
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|cause| io::Error::other(format!("draw random numbers: {cause}")))?;
        let token = format!("{PREFIX}{}", blake3::Hash::from(secret).to_hex());
        let view = self.change(|book| {
            if book.tokens.len() >= TOKENS_MAX {
                return Err(io::Error::other(format!("there are {TOKENS_MAX} tokens; revoke some first")));
            }
            book.next_id += 1;
            let hash = blake3::hash(token.as_bytes()).to_hex().to_string();
            let (name, scopes) = (name.to_owned(), scopes.to_vec());
            let record = Record { id: book.next_id, name, hash, scopes, created_at: now };
            let view = view_of(&record);
            book.tokens.push(record);
            Ok(view)
        })?;
        Ok(NewToken { view, token })
    }

    /// Takes a token out, by number or name. Its holder is refused from then on. Returns those that were taken out.
    ///
    /// # Errors
    /// What the file system says; `NotFound` if there is none.
    pub fn revoke(&self, which: &str) -> io::Result<Vec<TokenView>> {
        self.change(|book| {
            let is_meant = |record: &Record| record.name == which || record.id.to_string() == which;
            let (gone, kept): (Vec<_>, Vec<_>) =
                std::mem::take(&mut book.tokens).into_iter().partition(is_meant);
            book.tokens = kept;
            if gone.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no token `{which}`")));
            }
            Ok(gone.iter().map(view_of).collect())
        })
    }

    /// All tokens, oldest first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&self) -> io::Result<Vec<TokenView>> {
        Ok(read(&self.path)?.tokens.iter().map(view_of).collect())
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.read().holders.is_empty()
    }

    /// Who holds this token. Looks at the file first, if that changed.
    pub(crate) fn holder(&self, token: &str) -> Option<Holder> {
        if self.refresh().is_err() {
            return None; // a file that cannot be read lets nobody in
        }
        let known = self.known.read().clone();
        let hash = blake3::hash(token.as_bytes());
        // `blake3::Hash` compares in constant time, and all are compared: how long it takes says nothing.
        known
            .holders
            .iter()
            .fold(None, |found, (other, holder)| if *other == hash { Some(holder) } else { found })
            .cloned()
    }

    fn refresh(&self) -> io::Result<()> {
        let stamp = stamp_of(&self.path)?;
        if self.known.read().stamp == stamp {
            return Ok(());
        }
        let holders = read(&self.path)?.tokens.into_iter().filter_map(|record| {
            let Record { id, name, scopes, .. } = record;
            Some((blake3::Hash::from_hex(&record.hash).ok()?, Holder { id, name, scopes }))
        });
        *self.known.write() = Arc::new(Known { stamp, holders: holders.collect() });
        Ok(())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> io::Result<T>) -> io::Result<T> {
        let lock = self.path.with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock)?;
        let _lock =
            nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, cause)| cause)?;
        let mut book = read(&self.path)?;
        let outcome = change(&mut book)?;
        files::replace(&self.path, &serde_json::to_vec_pretty(&book)?)?;
        Ok(outcome)
    }
}

fn view_of(record: &Record) -> TokenView {
    let Record { id, name, scopes, created_at, .. } = record.clone();
    TokenView { id, name, scopes, created_at }
}

fn stamp_of(path: &Path) -> io::Result<Stamp> {
    match path.metadata() {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let sentence = format!("{} can be read by others: set its mode to 0600", path.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence))
        }
        Ok(found) => Ok(Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(files::said("look at", path, &cause)),
    }
}

fn read(path: &Path) -> io::Result<Book> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|cause| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {cause}", path.display()))
        }),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
        Err(cause) => Err(files::said("read", path, &cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_is_revoked_and_only_its_hash_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Tokens::open(&folder.path().join("state")).unwrap();
        let operator = Tokens::open(&folder.path().join("state")).unwrap();
        assert!(daemon.is_empty());
        let made = operator.create("ci", &[Scope::Read], 7).unwrap();
        let holder = daemon.holder(&made.token).unwrap();
        assert!(holder.may(Scope::Read) && !holder.may(Scope::Write));
        assert!(daemon.holder(&format!("{}0", made.token)).is_none());
        let path = folder.path().join("state/tokens.json");
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&made.token));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(operator.revoke("ci").unwrap().len(), 1);
        assert!(daemon.holder(&made.token).is_none(), "a revocation needs no restart");
        assert_eq!(operator.revoke("ci").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_token_file_that_others_can_read_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let made = tokens.create("ci", &[Scope::Read], 7).unwrap();
        let path = folder.path().join("tokens.json");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(tokens.holder(&made.token).is_none());
        assert!(Tokens::open(folder.path()).is_err());
    }
}

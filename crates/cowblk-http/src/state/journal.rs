//! Journal: requests under way, and the answers of those that carried an Idempotency-Key.
//!
//! A line is 16 hexadecimal digits of BLAKE3, a space, and a record as JSON. Reading ends at the first line that does not
//! match: what follows was not durable. The file is written anew, without what is settled, at each opening and when it
//! has grown.
//!
//! J1  Whatever takes several steps is in the journal, durably, before its first step; so that the next start can take
//!     it back or bring it to its end.
//! J2  The answer to a request with a key is in the journal, durably, before it is sent.

use super::files;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Seconds for which an answer is kept.
const ANSWER_SECONDS: u64 = 24 * 3600;
/// Answers that are kept, at most; the oldest go first.
const ANSWERS_MAX: usize = 10_000;
/// Bytes after which the file is written anew.
const FILE_BYTES_MAX: u64 = 8 << 20;
const SUM_DIGITS: usize = 16;

/// What a request with a key was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// What tells whether an interrupted request happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Witness {
    /// The server that it is about, where there is one already.
    pub(crate) server: Option<u64>,
    /// The server's automatic snapshot before the request.
    pub(crate) before_restore: Option<u64>,
    /// The server's status before the request.
    pub(crate) status: Option<String>,
}

/// A request with a key that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interrupted {
    pub(crate) key: String,
    pub(crate) body_hash: String,
    pub(crate) path: String,
    pub(crate) witness: Witness,
    pub(crate) at: u64,
    /// The name in the body, where that tells whether it happened.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// What is known of a key.
#[derive(Debug, PartialEq)]
pub(crate) enum Claim {
    /// Nothing: the request is to be done.
    New,
    /// It was done.
    Done(Answer),
    /// It is being done.
    UnderWay,
    /// It stands for another request.
    OfAnother,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Creating { name: String },
    Created { name: String },
    Frozen { server: u64 },
    Thawed { server: u64 },
    Begun(Interrupted),
    Answered { key: String, answer: Answer },
    Forgotten { key: String },
}

#[derive(Clone)]
struct Entry {
    begun: Interrupted,
    answer: Option<Answer>,
}

#[derive(Default)]
struct Contents {
    creating: BTreeSet<String>,
    frozen: BTreeSet<u64>,
    keys: BTreeMap<String, Entry>,
}

struct Open {
    file: File,
    bytes: u64,
    contents: Contents,
}

/// The journal.
pub(crate) struct Journal {
    path: PathBuf,
    clock: fn() -> u64,
    open: Mutex<Open>,
}

impl Contents {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Creating { name } => drop(self.creating.insert(name)),
            Record::Created { name } => drop(self.creating.remove(&name)),
            Record::Frozen { server } => drop(self.frozen.insert(server)),
            Record::Thawed { server } => drop(self.frozen.remove(&server)),
            Record::Begun(begun) => drop(self.keys.insert(begun.key.clone(), Entry { begun, answer: None })),
            Record::Answered { key, answer } => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.answer = Some(answer);
                }
            }
            Record::Forgotten { key } => drop(self.keys.remove(&key)),
        }
    }

    /// Forgets answers that are too old, or too many.
    fn trim(&mut self, now: u64) {
        self.keys.retain(|_, entry| entry.answer.is_none() || entry.begun.at + ANSWER_SECONDS > now);
        let excess = self.keys.len().saturating_sub(ANSWERS_MAX);
        if excess > 0 {
            let answered = self.keys.values().filter(|entry| entry.answer.is_some());
            let mut oldest: Vec<(u64, String)> =
                answered.map(|entry| (entry.begun.at, entry.begun.key.clone())).collect();
            oldest.sort();
            for (_, key) in oldest.into_iter().take(excess) {
                self.keys.remove(&key);
            }
        }
    }

    fn records(&self) -> Vec<Record> {
        let creating = self.creating.iter().map(|name| Record::Creating { name: name.clone() });
        let frozen = self.frozen.iter().map(|server| Record::Frozen { server: *server });
        let mut records: Vec<Record> = creating.chain(frozen).collect();
        for (key, entry) in &self.keys {
            records.push(Record::Begun(entry.begun.clone()));
            if let Some(answer) = entry.answer.clone() {
                records.push(Record::Answered { key: key.clone(), answer });
            }
        }
        records
    }
}

impl Journal {
    /// The journal in a state folder.
    pub(crate) fn open(folder: &Path, clock: fn() -> u64) -> io::Result<Self> {
        let path = folder.join("requests.journal");
        let mut contents = Contents::default();
        match std::fs::read(&path) {
            Ok(bytes) => {
                bytes
                    .split_inclusive(|byte| *byte == b'\n')
                    .map_while(decode)
                    .for_each(|r| contents.apply(r));
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(files::said("read", &path, &cause)),
        }
        let open = write_anew(&path, contents, clock())?;
        Ok(Self { path, clock, open: Mutex::new(open) })
    }

    /// Servers whose creation was cut off, by name.
    pub(crate) fn half_made(&self) -> Vec<String> {
        self.open.lock().contents.creating.iter().cloned().collect()
    }

    /// Servers whose guests may still be frozen.
    pub(crate) fn frozen(&self) -> Vec<u64> {
        self.open.lock().contents.frozen.iter().copied().collect()
    }

    /// Requests with a key that were cut off.
    pub(crate) fn interrupted(&self) -> Vec<Interrupted> {
        let open = self.open.lock();
        let waiting = open.contents.keys.values().filter(|entry| entry.answer.is_none());
        waiting.map(|entry| entry.begun.clone()).collect()
    }

    /// A server of that name is about to be made, in steps. Durable when this returns.
    pub(crate) fn note_creating(&self, name: &str) -> io::Result<()> {
        self.append(Record::Creating { name: name.into() }, true)
    }

    /// It is made, or nothing is left of it.
    pub(crate) fn note_created(&self, name: &str) -> io::Result<()> {
        self.append(Record::Created { name: name.into() }, false)
    }

    /// A server's guest is about to be frozen. Durable when this returns.
    pub(crate) fn note_frozen(&self, server: u64) -> io::Result<()> {
        self.append(Record::Frozen { server }, true)
    }

    /// It is thawed.
    pub(crate) fn note_thawed(&self, server: u64) -> io::Result<()> {
        self.append(Record::Thawed { server }, false)
    }

    /// Begins a request with a key, unless the key is known. Durable when this returns.
    pub(crate) fn claim(&self, begun: Interrupted) -> io::Result<Claim> {
        let mut open = self.open.lock();
        open.contents.trim(begun.at);
        match open.contents.keys.get(&begun.key) {
            Some(entry) if entry.begun.body_hash != begun.body_hash => return Ok(Claim::OfAnother),
            Some(Entry { answer: Some(answer), .. }) => return Ok(Claim::Done(answer.clone())),
            Some(_) => return Ok(Claim::UnderWay),
            None => {}
        }
        self.append_to(&mut open, Record::Begun(begun), true)?;
        Ok(Claim::New)
    }

    /// The answer to a request with a key. Durable when this returns.
    pub(crate) fn answer(&self, key: &str, answer: Answer) -> io::Result<()> {
        self.append(Record::Answered { key: key.into(), answer }, true)
    }

    /// A request with a key did nothing: it can be sent again.
    pub(crate) fn forget(&self, key: &str) -> io::Result<()> {
        self.append(Record::Forgotten { key: key.into() }, false)
    }

    fn append(&self, record: Record, durably: bool) -> io::Result<()> {
        self.append_to(&mut self.open.lock(), record, durably)
    }

    fn append_to(&self, open: &mut Open, record: Record, durably: bool) -> io::Result<()> {
        let line = encode(&record)?;
        open.file.write_all(&line).map_err(|cause| files::said("write", &self.path, &cause))?;
        if durably {
            open.file.sync_data().map_err(|cause| files::said("sync", &self.path, &cause))?;
        }
        open.bytes += u64::try_from(line.len()).unwrap_or(0);
        open.contents.apply(record);
        if open.bytes > FILE_BYTES_MAX {
            let contents = std::mem::take(&mut open.contents);
            *open = write_anew(&self.path, contents, (self.clock)())?;
        }
        Ok(())
    }
}

fn write_anew(path: &Path, mut contents: Contents, now: u64) -> io::Result<Open> {
    contents.trim(now);
    let lines: Vec<Vec<u8>> = contents.records().iter().map(encode).collect::<io::Result<_>>()?;
    files::replace(path, &lines.concat())?;
    // What cannot be trimmed is not written anew with every record.
    Ok(Open { file: files::append(path)?, bytes: 0, contents })
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let text = serde_json::to_string(record)?;
    Ok(format!("{} {text}\n", sum(text.as_bytes())).into_bytes())
}

fn decode(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (digits, text) = line.split_at_checked(SUM_DIGITS)?;
    let text = text.strip_prefix(b" ")?;
    if sum(text).as_bytes() != digits {
        return None;
    }
    serde_json::from_slice(text).ok()
}

fn sum(text: &[u8]) -> String {
    blake3::hash(text).to_hex().as_str().chars().take(SUM_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(key: &str, body: &str, at: u64) -> Interrupted {
        let (key, body_hash) = (key.to_owned(), body.to_owned());
        Interrupted { key, body_hash, path: "/x/".into(), witness: Witness::default(), at, name: None }
    }

    fn answer() -> Answer {
        Answer { status: 201, body: serde_json::json!({"id": 1}) }
    }

    #[test]
    fn a_key_stands_for_one_request_and_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        {
            let journal = Journal::open(folder.path(), || 100).unwrap();
            assert_eq!(journal.claim(begun("a", "1", 100)).unwrap(), Claim::New);
            assert_eq!(journal.claim(begun("a", "1", 100)).unwrap(), Claim::UnderWay);
            journal.answer("a", answer()).unwrap();
            journal.claim(begun("b", "1", 100)).unwrap();
            journal.note_creating("web").unwrap();
            journal.note_creating("db").unwrap();
            journal.note_created("db").unwrap();
            journal.note_frozen(7).unwrap();
        }
        let journal = Journal::open(folder.path(), || 200).unwrap();
        assert_eq!(journal.claim(begun("a", "1", 200)).unwrap(), Claim::Done(answer()));
        assert_eq!(journal.claim(begun("a", "2", 200)).unwrap(), Claim::OfAnother);
        assert_eq!(journal.half_made(), ["web"]);
        assert_eq!(journal.frozen(), [7]);
        let keys: Vec<String> = journal.interrupted().into_iter().map(|one| one.key).collect();
        assert_eq!(keys, ["b"]);
        journal.forget("b").unwrap();
        assert_eq!(journal.claim(begun("b", "9", 200)).unwrap(), Claim::New);
        assert_eq!(journal.claim(begun("a", "1", 100 + ANSWER_SECONDS)).unwrap(), Claim::New, "a day later");
    }

    /// Cut or flip the file anywhere: it opens, and holds the records before that place.
    #[test]
    fn a_torn_journal_opens_with_what_came_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("requests.journal");
        let journal = Journal::open(folder.path(), || 1).unwrap();
        for name in ["a", "b", "c"] {
            journal.note_creating(name).unwrap();
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let line = whole.len() / 3;
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(
                Journal::open(folder.path(), || 1).unwrap().half_made().len(),
                cut / line,
                "cut at {cut}"
            );
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            assert_eq!(
                Journal::open(folder.path(), || 1).unwrap().half_made().len(),
                at / line,
                "flipped at {at}"
            );
        }
    }
}

//! Arguments: what the command line asks for.

use std::path::PathBuf;

/// What to measure, where, and how often.
pub(crate) struct Arguments {
    /// Only a small disk, once: proves that everything runs.
    pub(crate) is_quick: bool,
    pub(crate) rounds: u64,
    /// Where files are made. Compare only runs on the same medium.
    pub(crate) dir: PathBuf,
    /// Peers by name; all if empty.
    pub(crate) peers: Vec<String>,
}

pub(crate) const USAGE: &str = "\
usage: cowblk-peers [--quick] [--rounds N] [--dir DIR] [--peers NAME,NAME]

Runs the same loads on cowblk and its peers, in turn, and prints tables in Markdown.

  --quick     small disks, one round: proves that everything runs, and measures nothing
  --rounds N  how often everything is measured (5)
  --dir DIR   where files are made (COWBLK_BENCH_DIR, or the directory for temporary files)
  --peers     only these (all)";

impl Arguments {
    /// Reads them.
    ///
    /// # Errors
    /// A text for the user.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let dir = std::env::var_os("COWBLK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let mut arguments = Self { is_quick: false, rounds: 5, dir, peers: Vec::new() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n{USAGE}"));
            match word.as_str() {
                "--quick" => (arguments.is_quick, arguments.rounds) = (true, 1),
                "--rounds" => {
                    arguments.rounds =
                        value()?.parse().map_err(|_| format!("--rounds: no number\n{USAGE}"))?;
                }
                "--dir" => arguments.dir = value()?.into(),
                "--peers" => arguments.peers = value()?.split(',').map(str::to_owned).collect(),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(arguments)
    }

    /// Whether a peer takes part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// The size of the disks that are measured.
    pub(crate) fn disk_bytes(&self) -> u64 {
        if self.is_quick { 32 << 20 } else { 1 << 30 }
    }
}

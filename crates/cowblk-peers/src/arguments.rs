//! Arguments: what the command line asks for.

use std::path::PathBuf;

/// What to measure, where, and how often.
pub(crate) struct Arguments {
    /// Only a small disk, once: proves that everything runs.
    pub(crate) is_quick: bool,
    pub(crate) rounds: u64,
    /// Where files are made. Compare only runs on the same medium.
    pub(crate) dir: PathBuf,
    /// The page to write the tables into.
    pub(crate) page: Option<PathBuf>,
    /// Peers by name; all if empty.
    peers: Vec<String>,
    /// Scenes by name; all if empty.
    scenes: Vec<String>,
    /// Loads of the contest by slug; all if empty.
    loads: Vec<String>,
    /// Log of two of the bytes of disks.
    disk_shift: u32,
}

const USAGE: &str = "\
usage: cowblk-peers [--quick] [--rounds N] [--dir DIR] [--peers NAME,…] [--loads NAME,…] [--scenes NAME,…] [--write PAGE]

Runs the same loads on cowblk and its peers, in turn, and prints tables in Markdown.

  --quick      small disks, one round: proves that everything runs, and measures nothing
  --rounds N   how often everything is measured (5)
  --dir DIR    where files are made (COWBLK_BENCH_DIR, or the directory for temporary files)
  --peers …    only these (all): raw, O_DIRECT, O_DSYNC, cowblk, cowblk-1000, imago, qcow2-rs, redb, fjall
  --loads …    of the contest only these (all): write, write-32, write-1, read, sequential-write, sequential-read
  --scenes …   only these (all), or `contest`, or";

impl Arguments {
    /// Reads them.
    ///
    /// # Errors
    /// A text for the user.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let dir = std::env::var_os("COWBLK_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let (peers, scenes, loads, page) = (Vec::new(), Vec::new(), Vec::new(), None);
        let mut arguments =
            Self { is_quick: false, rounds: 5, dir, page, peers, scenes, loads, disk_shift: 28 };
        let usage = || {
            format!(
                "{USAGE} {}\n  --write PAGE puts the tables into docs/performance.md",
                crate::scenes::names()
            )
        };
        while let Some(word) = words.next() {
            if word == "--quick" {
                (arguments.is_quick, arguments.rounds, arguments.disk_shift) = (true, 1, 25);
                continue;
            }
            let value = words.next().ok_or_else(usage)?;
            let list = || value.split(',').map(str::to_owned).collect();
            match word.as_str() {
                "--rounds" => arguments.rounds = value.parse().map_err(|_| usage())?,
                "--dir" => arguments.dir = value.into(),
                "--write" => arguments.page = Some(value.into()),
                "--peers" => arguments.peers = list(),
                "--loads" => arguments.loads = list(),
                "--scenes" => arguments.scenes = list(),
                _ => return Err(usage()),
            }
        }
        Ok(arguments)
    }

    /// Whether a peer takes part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// Whether the contest has a load.
    pub(crate) fn wants_load(&self, slug: &str) -> bool {
        self.loads.is_empty() || self.loads.iter().any(|load| load == slug)
    }

    /// Whether a scene is played.
    pub(crate) fn wants_scene(&self, name: &str) -> bool {
        self.scenes.is_empty() || self.scenes.iter().any(|scene| scene == name)
    }

    /// The size of the disks that are measured.
    pub(crate) fn disk_bytes(&self) -> u64 {
        1 << self.disk_shift
    }
}

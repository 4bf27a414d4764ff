//! Scenes: the measurements that need more than a peer and a load.

mod after_snapshot;
mod collector;
mod crash;
mod depth;
mod flat;
mod simulated;
mod space;
mod stall;
mod threads;
mod verbs;

use crate::arguments::Arguments;
use crate::contest::Contest;
use crate::load::Load;
use crate::peers::{CowBlk, Direct, Imago, Outcome, Raw};
use crate::targets::Targets;
use std::path::Path;

pub(crate) use crash::write_until_killed;

/// What all scenes are told.
pub(crate) struct Stage<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) dir: &'a Path,
    /// The size of the disks.
    pub(crate) bytes: u64,
    pub(crate) targets: &'a mut Targets,
}

type Scene = fn(&mut Stage) -> Outcome;

/// The scenes by name, in the order of the targets.
const SCENES: [(&str, Scene); 10] = [
    ("after-snapshot", after_snapshot::run),
    ("space", space::run),
    ("flat", flat::run),
    ("depth", depth::run),
    ("threads", threads::run),
    ("verbs", verbs::run),
    ("collector", collector::run),
    ("crash", crash::run),
    ("simulated", simulated::run),
    ("stall", stall::run),
];

/// Names that `--scenes` takes.
pub(crate) fn names() -> String {
    SCENES.map(|(name, _)| name).join(", ")
}

/// Runs those that were asked for. Each makes what it needs in a directory of its own, which goes afterwards.
pub(crate) fn run(arguments: &Arguments, targets: &mut Targets) -> Outcome {
    for (name, scene) in SCENES {
        if arguments.wants_scene(name) {
            eprintln!("scene: {name}");
            let dir = tempfile::tempdir_in(&arguments.dir)?;
            let bytes = arguments.disk_bytes();
            scene(&mut Stage { arguments, dir: dir.path(), bytes, targets })?;
        }
    }
    Ok(())
}

/// The targets that the contest decides.
pub(crate) fn judge(contest: &Contest, targets: &mut Targets) {
    let mine = CowBlk::NAME;
    let wanted = [
        (Load::Write, Raw::NAME, 1.2),
        (Load::SyncedWrite(32), Raw::NAME, 2.5),
        (Load::SyncedWrite(1), Raw::NAME, 1.0),
        (Load::SyncedWrite(1), Direct::NAME_SYNCED, 0.8),
        (Load::Read, Raw::NAME, 1.0),
        (Load::Read, Imago::NAME, 1.0),
        (Load::SequentialWrite, Raw::NAME, 0.9),
        (Load::SequentialRead, Raw::NAME, 0.9),
    ];
    for (load, to, target) in wanted {
        if let Some(ratio) = contest.ratio(load, mine, to) {
            targets.at_least(format!("{}, against {to}", load.name()), &ratio, target);
        }
    }
    if let Some(ratio) = contest.ratio(Load::Read, CowBlk::NAME_MAPPED, Raw::NAME) {
        let load = format!("{}, against {}, with `Options::mapped_reads`", Load::Read.name(), Raw::NAME);
        targets.at_least(load, &ratio, 1.0);
    }
    for load in crate::load::LOADS {
        if let Some(ratio) = contest.ratio(load, CowBlk::NAME_THOUSAND, mine) {
            targets.at_least(format!("{}, with 1,000 snapshots / with none", load.name()), &ratio, 0.95);
        }
    }
}

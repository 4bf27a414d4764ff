//! Crash: opening a store whose journal is full, against the time that the writes in it took.
//!
//! A child process writes until the journal is as full as it becomes before a checkpoint begins, says how long that took, and is killed. The
//! page cache forgets the file, so that opening reads everything from the medium.

use super::Stage;
use crate::buffer::Buffer;
use crate::figures::Rounds;
use crate::load::Scatter;
use crate::peers::Outcome;
use cowblk::{Options, Store};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

pub(super) fn run(stage: &mut Stage) -> Outcome {
    for every in [1, 32] {
        // Five gigabytes are written to fill a journal with records alone.
        let rounds = if every == 32 { stage.arguments.rounds.min(2) } else { stage.arguments.rounds };
        let mut ratio = Rounds::default();
        let mut texts = Vec::new();
        for round in 0..rounds {
            let path = stage.dir.join(format!("crash-{every}-{round}.cow"));
            let (wrote, opened) = crash(&path, stage.bytes, every)?;
            std::fs::remove_file(&path)?;
            texts.push(format!("{opened:.2} s for {wrote:.1} s"));
            ratio.push(opened / wrote);
        }
        let load = format!(
            "open after a crash, journal full, cold, sync every {every} / the writes ({})",
            texts.join(", ")
        );
        stage.targets.at_most(load, &ratio, 0.25);
    }
    Ok(())
}

/// Seconds of the child's writing, and of opening what it left.
fn crash(path: &Path, bytes: u64, every: u64) -> Outcome<(f64, f64)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--write-until-killed")
        .arg(path)
        .args([bytes.to_string(), every.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let said = BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line);
    child.kill()?;
    child.wait()?;
    said?;
    forget_cache(path)?;
    let start = Instant::now();
    let store = Store::open(path, Options::default())?;
    let opened = start.elapsed().as_secs_f64();
    store.close()?;
    Ok((line.trim().parse()?, opened))
}

/// What the page cache holds of a file goes.
fn forget_cache(path: &Path) -> Outcome {
    let file = File::options().read(true).open(path)?;
    file.sync_all()?;
    Ok(nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
}

/// The child: fills a disk, then writes at random until the journal is nearly half full (where a checkpoint would begin), and waits for its end.
pub(crate) fn write_until_killed(mut words: impl Iterator<Item = String>) -> Outcome {
    let mut word = || words.next().ok_or("--write-until-killed PATH BYTES EVERY");
    let (path, bytes, every) = (word()?, word()?.parse::<u64>()?, word()?.parse::<u64>()?);
    let store = Store::create(path, Options::default().background(false))?;
    let disk = store.create_server("web")?.create_disk("vda", bytes)?;
    let (order, mut buf) = (Scatter::new(bytes / 4096, 1), Buffer::noise(4096));
    for offset in (0..bytes).step_by(4096) {
        buf.stamp(offset);
        disk.write_at(&buf, offset)?;
    }
    store.checkpoint()?;
    let full = store.status().journal_bytes / 2 - (1 << 20);
    let (start, mut n) = (Instant::now(), 0_u64);
    while !n.is_multiple_of(32) || store.status().journal_used_bytes < full {
        buf.stamp(n + 1);
        disk.write_at(&buf, order.place(n) * 4096)?;
        n += 1;
        if n.is_multiple_of(every) {
            disk.flush()?;
        }
    }
    disk.flush()?;
    println!("{}", start.elapsed().as_secs_f64());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}

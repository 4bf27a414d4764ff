//! `cowblk snapshot prune`: deletes the snapshots that a policy does not keep, and those that have expired.

use clap::Args;
use cowblk::{KeepReason, Retention, Server, Verdict};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::marks::Label;
use crate::session::{self, Session, all_snapshots};
use crate::table::{Column, Table};
use crate::times;
use crate::view::{Owner, SnapshotView};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cowblk --store pool.cow snapshot prune web-1 --keep-last 10 --keep-hourly 24 --keep-daily 7 --dry-run
  cowblk --store pool.cow snapshot prune --keep-daily 30 --label by=cron
  cowblk --store pool.cow snapshot prune

Each --keep option keeps the newest snapshot of each of so many hours, days, weeks, months or years in which there is one; what no option keeps is deleted. Times are UTC, weeks begin on Monday. Protected snapshots, and what a restore keeps, are never deleted by a policy. Snapshots that have expired are deleted in any case; without a --keep option nothing else is.")]
pub(crate) struct Arguments {
    /// Only the snapshots of this server
    pub(crate) server: Option<String>,
    /// Keep so many of the newest of each server
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep_last: u32,
    /// Keep the newest of each of so many hours
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep_hourly: u32,
    /// Keep the newest of each of so many days
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep_daily: u32,
    /// Keep the newest of each of so many weeks
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep_weekly: u32,
    /// Keep the newest of each of so many months
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep_monthly: u32,
    /// Keep the newest of each of so many years
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep_yearly: u32,
    /// Look only at snapshots with this label
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Option<Label>,
    /// Say what would be kept and what deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Arguments {
    pub(crate) fn policy(&self) -> Retention {
        Retention {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            only_labelled: self.label.clone().map(|label| (label.key, label.value)),
        }
    }
}

/// What becomes of one snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fate {
    server: Owner,
    pub(crate) id: u64,
    pub(crate) name: String,
    created_at: String,
    kept: bool,
    expired: bool,
    pub(crate) reasons: Vec<String>,
    #[serde(skip)]
    pub(crate) title: String,
}

pub(crate) fn run(session: &Session, arguments: &Arguments) -> Result<(), Failure> {
    let policy = arguments.policy();
    let act = |store: &cowblk::Store| {
        let servers = match &arguments.server {
            Some(name) => vec![session::server(store, name)?],
            None => store.servers(),
        };
        let mut fates = Vec::new();
        for server in &servers {
            fates.extend(fates_of(server, &policy, arguments.dry_run)?);
        }
        if !arguments.dry_run && fates.iter().any(|fate| !fate.kept) {
            store.collect()?;
        }
        Ok(fates)
    };
    let fates = if arguments.dry_run { session.read(act) } else { session.write(act) }?;
    session.output.many(&fates, &text(&fates, arguments.dry_run))
}

fn fates_of(server: &Server, policy: &Retention, dry_run: bool) -> Result<Vec<Fate>, Failure> {
    let owner = Owner::of(server);
    let known: Vec<SnapshotView> =
        all_snapshots(server).iter().map(|snapshot| SnapshotView::of(snapshot, &owner)).collect();
    let verdicts = if dry_run { server.plan_prune(policy)? } else { server.prune(policy)? };
    let fate = |verdict: Verdict| {
        let view = known.iter().find(|view| view.id == verdict.id.0);
        Fate {
            server: owner.clone(),
            id: verdict.id.0,
            name: view.map(|view| view.name.clone()).unwrap_or_default(),
            created_at: times::rfc3339(verdict.created_at),
            kept: verdict.is_kept(),
            expired: verdict.expired,
            title: view.map(|view| view.title().to_owned()).unwrap_or_default(),
            reasons: verdict.reasons.iter().copied().filter_map(code).collect(),
        }
    };
    Ok(verdicts.into_iter().map(fate).collect())
}

/// What a reason is called in JSON.
fn code(reason: KeepReason) -> Option<String> {
    serde_json::to_value(reason).ok()?.as_str().map(str::to_owned)
}

pub(crate) fn text(fates: &[Fate], dry_run: bool) -> String {
    let gone = fates.iter().filter(|fate| !fate.kept).count();
    let done = if dry_run { "would delete" } else { "deleted" };
    let summary = format!("{done} {gone} of {} snapshots", fates.len());
    if fates.is_empty() {
        return summary;
    }
    let mut table = Table::new([
        Column::Right("ID"),
        Column::Left("SERVER"),
        Column::Left("SNAPSHOT"),
        Column::Left("CREATED"),
        Column::Left("FATE"),
    ]);
    for fate in fates {
        table.row([
            fate.id.to_string(),
            fate.server.name.clone(),
            fate.title.clone(),
            fate.created_at.clone(),
            said(fate, done),
        ]);
    }
    format!("{table}\n{summary}")
}

fn said(fate: &Fate, done: &str) -> String {
    if fate.kept {
        let reasons: Vec<&str> = fate.reasons.iter().map(|reason| word(reason)).collect();
        return format!("kept: {}", reasons.join(", "));
    }
    if fate.expired { format!("{done}: expired") } else { done.to_owned() }
}

/// The reason for people.
fn word(code: &str) -> &str {
    match code {
        "before_restore" => "before a restore",
        "other_label" => "other label",
        "no_rule" => "no rule",
        other => other,
    }
}

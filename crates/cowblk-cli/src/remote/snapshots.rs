//! `cowblk --url ... snapshot`.

use cowblk::{Freed, SnapshotMarks};
use serde_json::{Value, json};

use super::{Remote, not_over_http, parsed, results};
use crate::edit::SnapshotEditArguments;
use crate::failure::Failure;
use crate::marks::NewMarks;
use crate::prune::{self, Fate};
use crate::snapshot::{self, Command, Restored, WouldFree};
use crate::times;
use crate::tree;
use crate::view::{Owner, ServerView, SnapshotView};

pub(super) fn run(remote: &Remote, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { server, name, description, marks } => {
            create(remote, &server, (&name, &description), &marks)
        }
        Command::Edit(arguments) => edit(remote, &arguments),
        Command::List { server, tree: true } => tree::say(remote.output, &remote.servers(server.as_deref())?),
        Command::List { server, tree: false } => {
            let views = match server {
                Some(name) => remote.snapshots(&remote.server(&name)?)?,
                None => results(remote.get("snapshots/?automatic=true")?)?,
            };
            remote.output.list(&views, &snapshot::table(&views))
        }
        Command::Show { server, snapshot } => {
            let view = remote.snapshot(&remote.server(&server)?, &snapshot)?;
            remote.output.item(&view, &snapshot::details(&view))
        }
        Command::Restore { server, snapshot, undo: _ } => restore(remote, &server, snapshot.as_deref()),
        Command::Delete { server, snapshots, dry_run } => delete(remote, &server, &snapshots, dry_run),
        Command::Prune(arguments) => prune(remote, &arguments),
        Command::Export { .. } => Err(not_over_http("`snapshot export`")),
    }
}

fn create(
    remote: &Remote,
    server: &str,
    (name, description): (&str, &str),
    marks: &NewMarks,
) -> Result<(), Failure> {
    let marks = marks.marks();
    let body = json!({
        "server_id": remote.server(server)?.id, "name": name, "description": description,
        "protected": marks.protected, "expires_at": marks.expires_at.map(times::rfc3339), "labels": marks.labels,
    });
    let view: SnapshotView = parsed(remote.post("snapshots/", &body)?)?;
    remote.output.item(&view, &snapshot::created(&view))
}

fn edit(remote: &Remote, arguments: &SnapshotEditArguments) -> Result<(), Failure> {
    let view = remote.snapshot(&remote.server(&arguments.server)?, &arguments.snapshot)?;
    let expires_at = view.expires_at.as_deref().and_then(|text| times::parse_rfc3339(text).ok());
    let mut marks = SnapshotMarks { protected: view.protected, expires_at, labels: view.labels };
    arguments.changes.apply(&mut marks);
    let expires_at = marks.expires_at.map_or_else(String::new, times::rfc3339); // an empty text: never
    let body = json!({ "protected": marks.protected, "expires_at": expires_at, "labels": marks.labels });
    let view: SnapshotView = parsed(remote.patch(&format!("snapshots/{}/", view.id), &body)?)?;
    remote.output.item(&view, &format!("edited snapshot {} of {}", view.title(), view.server.name))
}

fn restore(remote: &Remote, name: &str, snapshot: Option<&str>) -> Result<(), Failure> {
    let server = remote.server(name)?;
    let (view, path) = match snapshot {
        Some(name) => {
            let view = remote.snapshot(&server, name)?;
            let path = format!("snapshots/{}/restore/", view.id);
            (view, path)
        }
        None => (
            replaced(remote, &server)?.ok_or_else(|| {
                snapshot::nothing_to_undo(&Owner { id: server.id, name: server.name.clone() })
            })?,
            format!("servers/{}/undo/", server.id),
        ),
    };
    remote.post(&path, &json!({}))?;
    let restored = Restored { snapshot: view, before_restore: replaced(remote, &server)? };
    remote.output.item(&restored, &restored.text(snapshot.is_none()))
}

/// What the last restore of a server replaced.
fn replaced(remote: &Remote, server: &ServerView) -> Result<Option<SnapshotView>, Failure> {
    Ok(remote.snapshots(server)?.into_iter().find(|one| one.kind == "before_restore"))
}

/// What a daemon says that deleting would free.
pub(super) fn freed_in(answer: &Value) -> Freed {
    let bytes = |key: &str| answer[key].as_u64().unwrap_or(0);
    Freed { data_bytes: bytes("data_bytes"), metadata_bytes: bytes("metadata_bytes") }
}

fn delete(remote: &Remote, server: &str, names: &[String], is_dry_run: bool) -> Result<(), Failure> {
    let of = remote.server(server)?;
    // All are looked up first: if one does not exist, none is deleted.
    let found = names.iter().map(|name| remote.snapshot(&of, name)).collect::<Result<Vec<_>, _>>();
    let mut snapshots = found?;
    snapshots.sort_by_key(|view| view.id);
    snapshots.dedup_by_key(|view| view.id);
    if is_dry_run {
        let ids: Vec<String> = snapshots.iter().map(|view| view.id.to_string()).collect();
        let answer = remote.get(&format!("would-free/?ids={}", ids.join(",")))?;
        let would_free = WouldFree { snapshots, freed: freed_in(&answer) };
        return remote.output.item(&would_free, &would_free.text(server));
    }
    for view in &snapshots {
        remote.delete(&format!("snapshots/{}/", view.id))?;
    }
    remote.output.many(&snapshots, &snapshot::deleted(server, &snapshots))
}

fn prune(remote: &Remote, arguments: &prune::Arguments) -> Result<(), Failure> {
    let policy = arguments.policy();
    let label = policy.only_labelled.map(|(key, value)| format!("{key}={value}"));
    let rules = [
        ("last", policy.last),
        ("hourly", policy.hourly),
        ("daily", policy.daily),
        ("weekly", policy.weekly),
        ("monthly", policy.monthly),
        ("yearly", policy.yearly),
    ];
    let mut fates: Vec<Fate> = Vec::new();
    for server in remote.servers(arguments.server.as_deref())? {
        let path = format!("servers/{}/prune/", server.id);
        let answer = if arguments.dry_run {
            let mut query: Vec<String> = rules.map(|(key, count)| format!("{key}={count}")).into();
            query.extend(label.as_deref().map(|label| format!("label={}", encoded(label))));
            remote.get(&format!("{path}?{}", query.join("&")))?
        } else {
            let mut body = json!({ "label": label });
            for (key, count) in rules {
                body[key] = count.into();
            }
            remote.post(&path, &body)?
        };
        fates.extend(results::<Fate>(answer)?);
    }
    for fate in &mut fates {
        let is_automatic = fate.reasons.iter().any(|reason| reason == "before_restore");
        fate.title = if is_automatic { "(before restore)".into() } else { fate.name.clone() };
    }
    remote.output.many(&fates, &prune::text(&fates, arguments.dry_run))
}

/// A text as part of a query.
fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(one).collect()
}

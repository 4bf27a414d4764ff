//! `cowblk snapshot list --tree`: the lineage of each server, drawn.
//!
//! A snapshot stands below the snapshot that it descends from, a live disk below the snapshot that
//! its content descends from. What descends from nothing stands directly below its server.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::sizes::human_or_dash;
use crate::table::printable;
use crate::view::{Owner, ServerView, servers};

/// One snapshot or live disk of the tree.
#[derive(Debug, Serialize)]
struct Node {
    server: Owner,
    kind: Cow<'static, str>,
    id: u64,
    name: String,
    /// The snapshot above it.
    parent: Option<u64>,
    #[serde(skip)]
    label: String,
}

pub(crate) fn run(session: &Session, server: Option<&str>) -> Result<(), Failure> {
    let views = session.read(|store| servers(store, server))?;
    say(session.output, &views)
}

/// The lineage of each of these servers.
pub(crate) fn say(output: Output, views: &[ServerView]) -> Result<(), Failure> {
    let trees: Vec<Vec<Node>> = views.iter().map(lineage).collect();
    let mut text = String::new();
    for (view, nodes) in views.iter().zip(&trees) {
        text.extend([printable(&view.name).as_str(), "\n"]);
        draw(nodes, &mut text);
    }
    let nodes: Vec<Node> = trees.into_iter().flatten().collect();
    output.many(&nodes, text.trim_end())
}

/// The nodes of one server, older snapshots first, then the live disks.
fn lineage(server: &ServerView) -> Vec<Node> {
    let known: BTreeSet<u64> = server.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let owner = || Owner { id: server.id, name: server.name.clone() };
    let mut nodes: Vec<Node> = server
        .snapshots
        .iter()
        .map(|snapshot| Node {
            server: owner(),
            kind: snapshot.kind.clone(),
            id: snapshot.id,
            name: snapshot.name.clone(),
            // A snapshot is younger than what it descends from: a parent that is not would be a loop.
            parent: snapshot.parent.filter(|id| *id < snapshot.id && known.contains(id)),
            label: format!(
                "{} (id {}, {}, {})",
                printable(snapshot.title()),
                snapshot.id,
                snapshot.created_at,
                human_or_dash(snapshot.size_bytes)
            ),
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    nodes.extend(server.disks.iter().map(|disk| Node {
        server: owner(),
        kind: "disk".into(),
        id: disk.id,
        name: disk.name.clone(),
        parent: disk.parent.filter(|id| known.contains(id)),
        label: format!("* {} (live disk)", printable(&disk.name)),
    }));
    nodes
}

/// Draws depth first, with a stack of its own: a lineage may be deeper than a thread's stack.
fn draw(nodes: &[Node], text: &mut String) {
    let mut children: BTreeMap<Option<u64>, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        children.entry(node.parent).or_default().push(node);
    }
    let mut waiting: Vec<(&Node, String, bool)> = Vec::new();
    push(&mut waiting, children.remove(&None), "");
    while let Some((node, indent, is_last)) = waiting.pop() {
        let (corner, below) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
        text.extend([indent.as_str(), corner, &node.label, "\n"]);
        if node.kind != "disk" {
            push(&mut waiting, children.remove(&Some(node.id)), &format!("{indent}{below}"));
        }
    }
}

/// Puts siblings on the stack so that they come off in their order.
fn push<'a>(waiting: &mut Vec<(&'a Node, String, bool)>, siblings: Option<Vec<&'a Node>>, indent: &str) {
    for (index, node) in siblings.unwrap_or_default().into_iter().rev().enumerate() {
        waiting.push((node, indent.to_owned(), index == 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: &'static str, id: u64, parent: Option<u64>) -> Node {
        let server = Owner { id: 1, name: "s".into() };
        Node { server, kind: kind.into(), id, name: String::new(), parent, label: format!("{kind}{id}") }
    }

    #[test]
    fn siblings_keep_their_order_and_disks_have_no_children() {
        // Disk 1 and snapshot 1 share a number: ids of different things are different things.
        let nodes = [
            node("user", 1, None),
            node("user", 2, Some(1)),
            node("disk", 1, Some(1)),
            node("disk", 9, None),
        ];
        let mut text = String::new();
        draw(&nodes, &mut text);
        assert_eq!(text, "├── user1\n│   ├── user2\n│   └── disk1\n└── disk9\n");
    }

    #[test]
    fn a_very_deep_lineage_is_drawn() {
        let nodes: Vec<Node> = (1..2000).map(|id| node("user", id, (id > 1).then(|| id - 1))).collect();
        let mut text = String::new();
        draw(&nodes, &mut text);
        assert_eq!(text.lines().count(), 1999);
    }
}

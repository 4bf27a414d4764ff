//! Tidy: the habits of this house that no lint of the compiler holds.
//!
//! Imports point down the floors, every file says what it is, bytes reach the medium through one room only, numbers of
//! defects and invariants are given once, and links in the documents lead somewhere.

#![allow(clippy::unwrap_used, reason = "a test stops where it is surprised")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, iter};

/// The rooms of `src/` and their floors. A room knows the floors below its own, and no other room of its floor.
const ROOMS: [(&str, u32); 17] = [
    ("units", 0),
    ("limits", 0),
    ("defect", 0),
    ("error", 0),
    ("sync", 0),
    ("latency", 0),
    ("device", 1),
    ("format", 1),
    ("space", 2),
    ("extent", 3),
    ("catalog", 3),
    ("commit", 4),
    ("store", 5),
    ("check", 5),
    ("snapshot", 6),
    ("audit", 6),
    ("repair", 6),
];

/// The auditor shares layouts, devices and words with the engine, and nothing above.
const AUDITOR: (&str, u32) = ("check", 1);

/// Neighbours that may know each other all the same, and why.
const NEIGHBOURS: [(&str, &str, &str); 1] =
    [("error", "defect", "an error of kind Corrupt carries its defect")];

/// The rooms that may touch files by other means than a device.
const FILE_ROOMS: [&str; 1] = ["device"];

const LINES_MAX: usize = 800;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` with this extension, but for build output.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// Fails with all the complaints at once, so that one run shows them all.
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The text with comments, strings and characters blanked out, line breaks kept.
fn code_only(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < bytes.len() {
        let len = match (bytes[i], bytes.get(i + 1)) {
            ('/', Some('/')) => bytes[i..].iter().take_while(|c| **c != '\n').count(),
            ('/', Some('*')) => block_comment(&bytes[i..]),
            ('"', _) => string(&bytes[i..]),
            ('r', Some('"' | '#')) if !previous_is_word(&bytes, i) => raw_string(&bytes[i..]),
            ('\'', _) => character(&bytes[i..]),
            _ => 0,
        };
        let blank = bytes[i..i + len].iter().map(|c| if *c == '\n' { '\n' } else { ' ' });
        out.extend(blank);
        i += len;
        if len == 0 {
            out.push(bytes[i]);
            i += 1;
        }
    }
    out
}

fn previous_is_word(text: &[char], at: usize) -> bool {
    at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_')
}

fn block_comment(text: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i + 1 < text.len() {
        match (text[i], text[i + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    text.len()
}

fn string(text: &[char]) -> usize {
    let mut i = 1;
    while i < text.len() && text[i] != '"' {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(text.len())
}

fn raw_string(text: &[char]) -> usize {
    let hashes = text[1..].iter().take_while(|c| **c == '#').count();
    if text.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let end: Vec<char> = iter::once('"').chain(iter::repeat_n('#', hashes)).collect();
    let body = hashes + 2;
    text[body..].windows(end.len()).position(|w| w == end).map_or(text.len(), |at| body + at + end.len())
}

/// The length of a character literal; 0 for a lifetime.
fn character(text: &[char]) -> usize {
    match (text.get(1), text.get(2)) {
        (Some('\\'), _) => text.iter().skip(3).position(|c| *c == '\'').map_or(0, |at| at + 4),
        (Some(_), Some('\'')) => 3,
        _ => 0,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn word_at(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The first words of what a `crate::` or a group behind it names: `crate::{a::b, c}` gives `a` and `c`.
fn heads(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else { return vec![word_at(text)] };
    let (mut depth, mut found, mut expecting) = (0, Vec::new(), true);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expecting = true,
            c if expecting && !c.is_whitespace() => {
                found.push(word_at(&group[i..]));
                expecting = false;
            }
            _ => {}
        }
    }
    found
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// What `lib.rs` re-exports, and the room that it comes from: `crate::Error` is `crate::error::Error`.
fn re_exports() -> BTreeMap<String, String> {
    let code = code_only(&fs::read_to_string(root().join("src/lib.rs")).unwrap());
    let mut found = BTreeMap::new();
    for statement in code.split(';').filter_map(|s| s.split("pub use ").nth(1)) {
        let path = statement.trim().trim_start_matches("crate::");
        let room = word_at(path).to_owned();
        let names = path.rsplit("::").next().unwrap_or_default();
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|n| !n.is_empty()) {
            found.insert(name.to_owned(), room.clone());
        }
    }
    found
}

#[test]
fn the_rooms_of_the_house_are_the_ones_in_the_table() {
    let entries = fs::read_dir(root().join("src")).unwrap().map(|entry| entry.unwrap().path());
    let listed: BTreeSet<String> = entries.map(|path| room_of(&path)).filter(|room| room != "lib").collect();
    let table: BTreeSet<String> = ROOMS.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(listed, table, "the rooms of src/ (left) and the table of this test (right)");
}

#[test]
fn imports_point_down_the_floors() {
    let floors: BTreeMap<&str, u32> = ROOMS.into_iter().collect();
    let re_exports = re_exports();
    let mut complaints = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let room = room_of(&path);
        let Some(floor) = floors.get(room.as_str()) else { continue };
        let code = code_only(&fs::read_to_string(&path).unwrap());
        for (at, found) in code.match_indices("crate::") {
            let place = format!("{}:{}", relative(&path), line_of(&code, at));
            for head in heads(&code[at + found.len()..]) {
                let target = re_exports.get(head).map_or(head, String::as_str);
                let neighbours = NEIGHBOURS.iter().any(|n| (n.0, n.1) == (room.as_str(), target));
                match floors.get(target) {
                    _ if target == room || neighbours => {}
                    Some(&below) if room == AUDITOR.0 && below > AUDITOR.1 => complaints.push(format!(
                        "{place}: the auditor must not know {target}: it finds out for itself what the engine thinks"
                    )),
                    Some(below) if below < floor => {}
                    Some(other) => complaints.push(format!(
                        "{place}: {room} (floor {floor}) must not know {target} (floor {other})"
                    )),
                    None => complaints.push(format!("{place}: crate::{head} is no room")),
                }
            }
        }
    }
    assert_none(&complaints);
}

/// `super` stays inside a room: what lies outside is named from the crate down, where the test above sees it.
#[test]
fn super_never_leaves_a_room() {
    let mut complaints = Vec::new();
    for path in files(&root().join("src"), "rs") {
        let inside = path.strip_prefix(root().join("src")).unwrap();
        let is_front_door = inside.file_name().is_some_and(|name| name == "mod.rs");
        let depth = inside.components().count() - usize::from(is_front_door);
        let code = code_only(&fs::read_to_string(&path).unwrap());
        for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
            let steps = iter::successors(Some(&code[at..]), |rest| rest.strip_prefix("super::")).count() - 1;
            let nested = inline_modules(&code[..at]);
            if steps >= depth + nested {
                complaints.push(format!("{}:{}: super leaves the room", relative(&path), line_of(&code, at)));
            }
        }
    }
    assert_none(&complaints);
}

/// How many `mod name {` are open at the end of the text.
fn inline_modules(code: &str) -> usize {
    let mut open = Vec::new();
    for (at, c) in code.char_indices() {
        match c {
            '{' => {
                let statement = code[..at].rsplit([';', '{', '}']).next().unwrap_or_default();
                open.push(statement.split_whitespace().rev().nth(1) == Some("mod"));
            }
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let mut complaints = Vec::new();
    for part in ["src", "tests", "benches", "examples", "crates", "fuzz"] {
        for path in files(&root().join(part), "rs") {
            let text = fs::read_to_string(&path).unwrap();
            if !text.starts_with("//! ") {
                complaints.push(format!("{}: the first line is no `//!`", relative(&path)));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn a_room_says_the_floor_that_it_is_on() {
    let mut complaints = Vec::new();
    for (room, floor) in ROOMS {
        let src = root().join("src");
        let front_door = [src.join(room).join("mod.rs"), src.join(format!("{room}.rs"))];
        let Some(path) = front_door.iter().find(|path| path.is_file()) else { continue };
        for path in iter::once(path.clone()).chain(files(&src.join(room), "rs")) {
            let text = fs::read_to_string(&path).unwrap();
            let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            let says = header.split("Floor ").nth(1).map(word_at);
            let is_front_door = front_door.contains(&path);
            if says.is_some_and(|says| says != floor.to_string()) || (says.is_none() && is_front_door) {
                complaints.push(format!("{}: says floor {says:?}, the table says {floor}", relative(&path)));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn bytes_reach_the_medium_only_through_a_device() {
    let mut complaints = Vec::new();
    for path in files(&root().join("src"), "rs") {
        if FILE_ROOMS.contains(&room_of(&path).as_str()) {
            continue;
        }
        let code = code_only(&fs::read_to_string(&path).unwrap());
        for (at, _) in code.match_indices("std::") {
            if heads(&code[at + 5..]).contains(&"fs") {
                complaints.push(format!("{}:{}: std::fs", relative(&path), line_of(&code, at)));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut complaints = Vec::new();
    for part in ["src", "tests", "benches", "examples", "crates", "fuzz"] {
        for path in files(&root().join(part), "rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            if lines > LINES_MAX {
                complaints.push(format!("{}: {lines} lines, at most {LINES_MAX}", relative(&path)));
            }
        }
    }
    assert_none(&complaints);
}

/// Words of a text that are one of `prefix` and then digits only, as `D014` is.
fn numbered<'a>(text: &'a str, is_prefix: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(move |word| {
        let prefix = word.trim_end_matches(|c: char| c.is_ascii_digit());
        prefix.len() < word.len() && is_prefix(prefix)
    })
}

fn is_defect_code(word: &str) -> bool {
    word.len() == 4 && word.starts_with('D')
}

#[test]
fn a_defect_code_is_given_once_and_documented() {
    let mut constructed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut mentioned: BTreeMap<String, String> = BTreeMap::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", relative(&path), number + 1);
            for code in numbered(line, |prefix| prefix == "D").filter(|word| is_defect_code(word)) {
                if line.contains(&format!("\"{code}\"")) && !line.trim_start().starts_with("//") {
                    constructed.entry(code.to_owned()).or_default().push(place.clone());
                }
                mentioned.insert(code.to_owned(), place.clone());
            }
        }
    }
    let format_page = fs::read_to_string(root().join("docs/format.md")).unwrap_or_default();
    let mut complaints = Vec::new();
    for (code, places) in &constructed {
        if places.len() > 1 {
            complaints.push(format!("{code} is constructed at {places:?}"));
        }
        if !format_page.contains(code.as_str()) {
            complaints.push(format!("{code} is not in docs/format.md"));
        }
    }
    for (code, place) in mentioned.iter().filter(|(code, _)| !constructed.contains_key(*code)) {
        complaints.push(format!("{place}: {code} is no defect"));
    }
    assert_none(&complaints);
}

#[test]
fn an_invariant_number_is_given_once() {
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().take_while(|line| line.starts_with("//!")) {
            let Some((number, _)) = line.trim_start_matches("//!").trim_start().split_once("  ") else {
                continue;
            };
            let is_letter =
                |prefix: &str| prefix.len() == 1 && prefix.chars().all(|c| c.is_ascii_uppercase());
            if numbered(number, is_letter).next() == Some(number) {
                given.entry(number.to_owned()).or_default().push(relative(&path));
            }
        }
    }
    let twice = given.iter().filter(|(_, places)| places.len() > 1);
    assert_none(
        &twice.map(|(number, places)| format!("{number} is given in {places:?}")).collect::<Vec<_>>(),
    );
}

/// The text without fenced and inline code.
fn prose_only(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.extend(line.split('`').step_by(2));
        }
        out.push('\n');
    }
    out
}

/// The anchors that a page offers: its headings, as the forges spell them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut pages = files(&root().join("docs"), "md");
    pages.extend(
        fs::read_dir(root())
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "md")),
    );
    let mut complaints = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let prose = prose_only(&text);
        for (at, _) in prose.match_indices("](") {
            let target = prose[at + 2..].split([')', ' ']).next().unwrap();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').map_or((target, None), |(f, a)| (f, Some(a)));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let place = format!("{}:{}", relative(&page), line_of(&prose, at));
            if !file.exists() {
                complaints.push(format!("{place}: {target} is not there"));
            } else if let Some(anchor) = anchor
                && file.extension().is_some_and(|e| e == "md")
                && !anchors(&fs::read_to_string(&file).unwrap()).contains(anchor)
            {
                complaints.push(format!("{place}: {target} names no heading"));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn the_eyes_of_this_test_are_good() {
    let code = code_only(
        "a /* crate::x */ b // crate::y\n\"crate::z\" r#\"crate::\"w\"# 'c' &'a crate::{ p::{q, r}, s, T }",
    );
    assert_eq!(code.matches("crate::").count(), 1, "{code}");
    assert_eq!(heads(code.split("crate::").nth(1).unwrap()), ["p", "s", "T"]);
    assert_eq!(inline_modules("mod a { fn f() { if x { } "), 1);
    assert!(anchors("# What is *lost*, and when?").contains("what-is-lost-and-when"));
    assert_eq!(numbered("see D014, S1 and Dx9", |p| p == "D").collect::<Vec<_>>(), ["D014"]);
}

"use strict";
// The page: servers, their disks and snapshots as a tree of what descends from what. Nothing is asked from elsewhere.

const PAGE = 25;
const $ = (id) => document.getElementById(id);
let token = sessionStorage.getItem("cowblk-token") || "";
let shown = PAGE;
let listening = null;
// Servers whose backups are shown, and the backups that were shown last: they stay while the list is drawn anew.
const unfolded = new Set(), backups = new Map();
const NAME = { name: "name", label: "Name (letters, digits, - and _)", required: true, pattern: "[A-Za-z0-9_\\-]{1,64}", max: 64 };

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

class Refused extends Error {
  constructor(status, body) {
    super(body.detail || `the daemon answered ${status}`);
    this.status = status;
  }
}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(`/api/v1/${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await response.text();
  const value = text ? JSON.parse(text) : null;
  if (!response.ok) throw new Refused(response.status, value || {});
  return value;
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "being counted";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

// One thing at a time; what goes wrong is said.
async function attempt(doing, work) {
  say(`${doing} …`);
  try {
    const done = await work();
    say(typeof done === "string" ? done : `${doing}: done`);
    await refresh();
  } catch (problem) {
    if (problem.status === 401) return signOut("The token is not known any more.");
    say(problem.message, true);
  }
}

// A dialog; resolves to its fields, or to null.
function confirmed(title, text, yes, fields = [], bad = false) {
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask-yes").classList.toggle("bad", bad);
  $("ask-fields").replaceChildren(...fields.map((field) => make("label", {}, `${field.label} `, make("input", { name: field.name, required: !!field.required, pattern: field.pattern || ".*", maxLength: field.max || 1024, type: field.type || "text", value: field.value || (field.type === "checkbox" ? "on" : ""), min: field.min || "" }))));
  const dialog = $("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "yes") return resolve(null);
      const inputs = [...$("ask-fields").querySelectorAll("input")];
      resolve(Object.fromEntries(inputs.map((input) => [input.name, input.type === "checkbox" ? input.checked : input.value])));
    }, { once: true });
  });
}

async function createSnapshot(server) {
  const fields = [NAME, { name: "description", label: "Description" }];
  const given = await confirmed(`Snapshot of ${server.name}`, "All its disks, as they are at one instant.", "Create", fields);
  if (given) await attempt("Creating the snapshot", async () => (await ask("POST", "snapshots/", { server_id: server.id, ...given })).message);
}

async function createServer() {
  const fields = [NAME, { name: "size", label: "Size of its disk in GiB", type: "number", required: true, min: "1", value: "20" }];
  const given = await confirmed("New server", "It begins stopped, with one empty disk that takes space only as it is written.", "Create server", fields);
  if (given) await attempt("Creating the server", async () => `Server ${(await ask("POST", "servers/", { name: given.name, disks: [{ name: "vda", size_gb: Number(given.size) }] })).name} is there.`);
}

async function cloneServer(server, snapshot) {
  const text = `A new server whose disks begin as they were in ${snapshot.name} of ${server.name}, at once, whatever their size. Both can be deleted in any order.`;
  const given = await confirmed(`Clone ${snapshot.name}`, text, "Create clone", [NAME]);
  if (given) await attempt("Cloning", async () => `Server ${(await ask("POST", `snapshots/${snapshot.id}/clone/`, { name: given.name })).name} is there.`);
}

async function removeServer(server, snapshots) {
  const count = snapshots.filter((one) => one.kind === "user").length;
  const text = `Its ${server.disks.length} disks and ${count} snapshots go with it, and this cannot be taken back. Its backups stay.`;
  if (await confirmed(`Delete server ${server.name}?`, text, "Delete server", [], true)) await attempt("Deleting the server", async () => { await ask("DELETE", `servers/${server.id}/`); return `${server.name} is gone.`; });
}

async function createBackup(server) {
  const text = "A copy of all its disks in the separate store of backups. It holds what they hold now; the copy is made behind it.";
  const given = await confirmed(`Backup of ${server.name}`, text, "Create backup", [{ name: "description", label: "Description" }]);
  if (!given) return;
  unfolded.add(server.id);
  await attempt("Beginning the backup", async () => { await ask("POST", "backups/", { server_id: server.id, ...given }); return "The backup is being copied."; });
}

async function removeBackup(backup) {
  const text = "This cannot be taken back. Other backups stay whole.";
  if (await confirmed(`Delete the backup of ${moment(backup)}?`, text, "Delete backup", [], true)) await attempt("Deleting the backup", async () => { await ask("DELETE", `backups/${backup.id}/`); return "The backup is gone."; });
}

const moment = (one) => one.created_at.replace("T", " ").replace("Z", " UTC");

// `kind` is `snapshots` or `backups`.
async function restore(server, snapshot, kind = "snapshots") {
  const stops = server.status === "active" ? "The server is stopped first. " : "";
  const text = `${stops}Its disks will hold what they held at ${snapshot.created_at}. Newer snapshots stay, and what the disks hold now is kept until the next restore, so that this can be undone.`;
  const given = await confirmed(`Restore ${snapshot.name}?`, text, "Restore", [{ name: "start", label: "Start the server afterwards", type: "checkbox" }]);
  if (given) await attempt("Restoring", async () => (await ask("POST", `${kind}/${snapshot.id}/restore/?start=${given.start}`)).message);
}

async function undo(server) {
  const text = "The disks will hold again what they held before the last restore. Doing this once more goes forth again.";
  if (await confirmed(`Undo the last restore of ${server.name}?`, text, "Undo")) await attempt("Undoing the restore", async () => (await ask("POST", `servers/${server.id}/undo/`)).message);
}

async function remove(snapshot) {
  let frees = "what it frees could not be counted";
  try { frees = `deleting it frees ${size((await ask("GET", `would-free/?ids=${snapshot.id}`)).data_bytes)}`; } catch (problem) { if (problem.status === 401) return signOut(problem.message); }
  const yes = await confirmed(`Delete ${snapshot.name}?`, `This cannot be taken back; ${frees}. Other snapshots and the disks keep what they hold.`, "Delete", [], true);
  if (yes) await attempt("Deleting", async () => { await ask("DELETE", `snapshots/${snapshot.id}/`); return `${snapshot.name} is gone; ${frees}.`; });
}

const SVG = "http://www.w3.org/2000/svg";
function bars(snapshot, most) {
  const total = snapshot.size_bytes;
  const box = make("span", { className: "size" });
  if (total === null) { box.append("being counted …"); return box; }
  const own = snapshot.exclusive_bytes ?? 0;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "bars");
  svg.setAttribute("viewBox", "0 0 100 6");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${size(total - own)} shared, ${size(own)} its own`);
  const scale = most ? 100 / most : 0;
  for (const [kind, from, length] of [["own", 0, own], ["shared", own, total - own]]) {
    const part = document.createElementNS(SVG, "rect");
    part.setAttribute("class", kind);
    part.setAttribute("x", from * scale);
    part.setAttribute("width", length * scale);
    part.setAttribute("height", 6);
    svg.append(part);
  }
  box.append(svg, `${size(total)}, ${snapshot.exclusive_bytes === null ? "…" : size(own)} its own`);
  return box;
}

function button(text, name, act, options = {}) {
  const element = make("button", { type: "button", textContent: text, ...options });
  element.setAttribute("aria-label", `${text} ${name}`);
  element.addEventListener("click", act);
  return element;
}

function node(server, snapshot, most) {
  const automatic = snapshot.kind === "before_restore";
  const name = automatic ? "before the last restore" : snapshot.name;
  const facts = [moment(snapshot)];
  if (snapshot.status !== "completed") facts.push("in progress");
  if (snapshot.consistency !== "crash") facts.push(`${snapshot.consistency} consistent`);
  if (snapshot.protected) facts.push("protected");
  if (snapshot.expires_at) facts.push(`expires ${snapshot.expires_at}`);
  const title = make("div", {}, make("strong", { textContent: name }), " ", make("span", { className: "quiet", textContent: facts.join(" · ") }));
  if (snapshot.description) title.append(make("div", { className: "quiet", textContent: snapshot.description }));
  const row = make("div", { className: "row" }, title, bars(snapshot, most));
  row.append(button("Restore", name, () => restore(server, { ...snapshot, name })));
  if (!automatic) row.append(button("Clone", name, () => cloneServer(server, snapshot)));
  if (!automatic) row.append(button("Delete", name, () => remove(snapshot), { className: "bad", disabled: snapshot.protected }));
  const item = make("li", {}, row);
  item.dataset.snapshot = snapshot.id;
  return item;
}

// What descends from what: snapshots below their parents, and the disks where they stand.
function tree(server, snapshots) {
  const root = make("ul", { className: "tree" });
  root.setAttribute("aria-label", `Snapshots of ${server.name}`);
  const most = Math.max(1, ...snapshots.map((one) => one.size_bytes ?? 0));
  const items = new Map(snapshots.map((one) => [one.id, node(server, one, most)]));
  const below = (parent) => {
    const item = items.get(parent);
    if (!item) return root;
    const list = item.querySelector(":scope > ul");
    if (list) return list;
    const made = make("ul");
    item.append(made);
    return made;
  };
  for (const one of [...snapshots].reverse()) below(one.parent).append(items.get(one.id));
  const heads = new Map();
  for (const disk of server.disks) heads.set(disk.parent, [...(heads.get(disk.parent) || []), disk]);
  for (const [parent, disks] of heads) {
    const text = disks.map((disk) => `${disk.name} (${size(disk.size_bytes)}, ${size(disk.mapped_bytes)} used)`).join(", ");
    const row = make("div", { className: "row" }, make("span", {}, make("strong", { textContent: "now: " }), text));
    below(parent).append(make("li", { className: "head" }, row));
  }
  return root;
}

// The backups of a server, which are asked for when somebody wants to see them.
function backupsOf(server) {
  const box = make("details", { open: unfolded.has(server.id) }, make("summary", { textContent: "Backups" }));
  box.querySelector("summary").setAttribute("aria-label", `Backups of ${server.name}`);
  const list = make("ul", { className: "plain" });
  const draw = (found) => {
    list.replaceChildren(...found.map((one) => backup(server, one)));
    if (!found.length) list.append(make("li", { className: "quiet", textContent: "There is none." }));
  };
  const fill = async () => {
    backups.set(server.id, (await ask("GET", `backups/?server_id=${server.id}`)).results);
    draw(backups.get(server.id));
  };
  if (backups.has(server.id)) draw(backups.get(server.id));
  // Noted before it unfolds: the list may be drawn anew in between.
  box.querySelector("summary").addEventListener("click", () => box.open ? unfolded.delete(server.id) : unfolded.add(server.id));
  box.addEventListener("toggle", () => { if (box.open) fill().catch((problem) => say(problem.message, true)); });
  box.append(make("div", { className: "row" }, list, button("New backup", `of ${server.name}`, () => createBackup(server))));
  return box;
}

function backup(server, one) {
  const facts = [one.backup_type, one.status === "completed" ? `${one.size_mb} MiB` : "being copied …"];
  if (one.expires_at) facts.push(`goes at ${one.expires_at}`);
  if (one.description) facts.push(one.description);
  const row = make("div", { className: "row" }, make("span", {}, make("strong", { textContent: moment(one) }), " ", make("span", { className: "quiet", textContent: facts.join(" · ") })));
  if (one.status === "completed") {
    const name = `backup ${one.id}`;
    row.append(button("Restore", name, () => restore(server, { ...one, name: `the backup of ${moment(one)}` }, "backups")), button("Delete", name, () => removeBackup(one), { className: "bad" }));
  }
  return make("li", {}, row);
}

function card(server, snapshots) {
  const id = `server-${server.id}`;
  const facts = [`id ${server.id}`, `${snapshots.filter((one) => one.kind === "user").length} of ${server.snapshot_limit} snapshots`];
  if (server.schedule) facts.push(`one every ${server.schedule.every_seconds} s`);
  if (server.automatic_backups) facts.push("a backup each day");
  const title = make("div", {}, make("h3", { id, textContent: server.name }), make("span", { className: "quiet", textContent: facts.join(" · ") }));
  const row = make("div", { className: "row" }, title, make("span", { className: "state", textContent: server.status }));
  row.append(button("Snapshot", `of ${server.name}`, () => createSnapshot(server)));
  if (snapshots.some((one) => one.kind === "before_restore")) row.append(button("Undo restore", `of ${server.name}`, () => undo(server)));
  const verb = { active: "Stop", stopped: "Start", suspended: "Resume" }[server.status];
  if (verb) row.append(button(verb, server.name, () => attempt(`${verb} ${server.name}`, () => ask("POST", `servers/${server.id}/${verb.toLowerCase()}/`).then(() => true))));
  if (server.status !== "active") row.append(button("Delete server", server.name, () => removeServer(server, snapshots), { className: "bad" }));
  const article = make("article", {}, row, tree(server, snapshots), backupsOf(server));
  article.setAttribute("aria-labelledby", id);
  article.dataset.server = server.id;
  return article;
}

let running = null, again = false;
// Many changes at once are one refresh.
function refresh() {
  if (running) { again = true; return running; }
  running = draw().finally(() => { running = null; if (again) { again = false; refresh(); } });
  return running;
}

async function draw() {
  const wanted = $("filter").value.trim();
  const query = wanted ? `&name=${encodeURIComponent(wanted)}` : "";
  const [servers, space] = await Promise.all([ask("GET", `servers/?limit=${shown}${query}`), ask("GET", "space/")]);
  const lists = await Promise.all(servers.results.map((server) => ask("GET", `snapshots/?automatic=true&server_id=${server.id}`)));
  const focus = document.activeElement?.getAttribute("aria-label");
  $("list").replaceChildren(...servers.results.map((server, nth) => card(server, lists[nth].results)));
  if (!servers.count) $("list").append(make("p", { textContent: wanted ? `No server is called ${wanted}.` : "There is no server yet." }));
  if (focus) document.querySelector(`#list [aria-label="${CSS.escape(focus)}"]`)?.focus();
  $("more").hidden = servers.results.length >= servers.count;
  const capacity = space.capacity_bytes === null ? "" : ` of ${size(space.capacity_bytes)}`;
  watchCollector().catch((problem) => say(problem.message, true));
  $("space").textContent = `${servers.count} servers · ${size(space.used_bytes)}${capacity} used${space.halted ? " · HALTED: the medium failed" : ""}`;
}

// What the collector has still to do, for as long as it has something to do.
let most = 0, watching = false;
async function watchCollector() {
  if (watching || !token) return;
  watching = true;
  try {
    for (;;) {
      const left = await ask("GET", "collector/");
      most = left.waiting_versions ? Math.max(most, left.waiting_bytes) : 0;
      $("collector").hidden = !left.waiting_versions;
      $("collector-text").textContent = `Giving back what was deleted: about ${size(left.waiting_bytes)} to go`;
      $("collector-bar").max = most || 1;
      $("collector-bar").value = most - left.waiting_bytes;
      if (!left.waiting_versions || !token) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  } finally { watching = false; }
}

// Server-sent events, read with fetch: an EventSource cannot send a token.
async function listen() {
  listening?.abort();
  const own = listening = new AbortController();
  while (!own.signal.aborted) {
    try {
      const response = await fetch("/api/v1/events/", { headers: { Authorization: `Bearer ${token}` }, signal: own.signal });
      if (response.status === 401) return signOut("The token is not known any more.");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        if (value.includes("data:")) refresh().catch((problem) => say(problem.message, true));
      }
    } catch (problem) {
      if (own.signal.aborted) return;
      say("The daemon does not answer; trying again.", true);
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

function signOut(text = "") {
  listening?.abort();
  token = "";
  sessionStorage.removeItem("cowblk-token");
  $("servers").hidden = $("sign-out").hidden = true;
  $("sign-in").hidden = false;
  $("list").replaceChildren();
  $("space").textContent = "";
  $("collector").hidden = true;
  say(text, !!text);
  $("token").focus();
}

async function signIn() {
  await refresh();
  sessionStorage.setItem("cowblk-token", token);
  $("token").value = "";
  $("sign-in").hidden = true;
  $("servers").hidden = $("sign-out").hidden = false;
  say("");
  $("main").focus();
  listen();
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  signIn().catch((problem) => signOut(problem.message));
});
$("sign-out").addEventListener("click", () => signOut());
$("new-server").addEventListener("click", createServer);
$("more").addEventListener("click", () => { shown += PAGE; refresh(); });
$("filter").addEventListener("change", () => refresh().catch((problem) => say(problem.message, true)));
if (token) signIn().catch((problem) => signOut(problem.message));

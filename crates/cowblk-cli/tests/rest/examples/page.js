// Drives a browser over the pipes of its debugging protocol: node page.js BROWSER URL TOKEN PROFILE
const assert = require("node:assert");
const { spawn } = require("node:child_process");

const [browser, url, token, profile] = process.argv.slice(2);
const child = spawn(browser, ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
  "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
let last = 0, rest = "", session;
const waiting = new Map(), problems = [], asked = [];
child.stdio[4].on("data", (data) => {
  const parts = (rest + data).split("\0");
  rest = parts.pop();
  for (const part of parts) {
    const message = JSON.parse(part);
    if (message.method === "Runtime.exceptionThrown") problems.push(message.params.exceptionDetails.text);
    if (message.method === "Log.entryAdded" && message.params.entry.level === "error") problems.push(message.params.entry.text);
    if (message.method === "Network.requestWillBeSent") asked.push(message.params.request.url);
    waiting.get(message.id)?.(message);
    waiting.delete(message.id);
  }
});
child.on("error", (error) => { console.error(error); process.exit(1); });

function send(method, params = {}) {
  const id = ++last;
  child.stdio[3].write(JSON.stringify({ id, method, params, sessionId: session }) + "\0");
  return new Promise((resolve, reject) => waiting.set(id, (message) => message.error ? reject(new Error(`${method}: ${message.error.message}`)) : resolve(message.result)));
}

async function run(expression) {
  const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description || exceptionDetails.text}`);
  return result.value;
}

async function until(expression) {
  for (;;) {
    const value = await run(expression);
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const press = (label) => until(`(() => { const b = [...document.querySelectorAll("button")].find((b) => (b.getAttribute("aria-label") || b.textContent) === ${JSON.stringify(label)}); if (b && !b.disabled) b.click(); return !!b && !b.disabled; })()`);
const text = () => run("document.body.innerText");

(async () => {
  const { targetId } = (await send("Target.getTargets")).targetInfos.find((one) => one.type === "page");
  session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
  await send("Page.navigate", { url });
  await until("document.readyState === 'complete' && location.protocol === 'http:'");

  // A wrong token, then by keyboard the right one.
  await run("document.getElementById('token').focus()");
  await send("Input.insertText", { text: "wrong" });
  for (const type of ["keyDown", "keyUp"]) await send("Input.dispatchKeyEvent", { type, key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: type === "keyDown" ? "\r" : undefined });
  await until("document.getElementById('status').textContent.includes('not known')");
  problems.length = 0; // the browser logs the 401
  await run("document.getElementById('token').value = ''");
  await send("Input.insertText", { text: token });
  for (const type of ["keyDown", "keyUp"]) await send("Input.dispatchKeyEvent", { type, key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, text: type === "keyDown" ? "\r" : undefined });
  await until("document.querySelector('#list article h3')?.textContent === 'web-1'");
  assert.match(await text(), /first/);
  assert.equal(await run("!!document.querySelector('#list li[data-snapshot] li.head')"), true, "the disk stands below its snapshot");

  // A snapshot, which appears below the first one when it is counted.
  await press("Snapshot of web-1");
  await until("document.getElementById('ask').open");
  await run("document.querySelector('#ask input[name=name]').value = 'second'");
  await press("Create");
  await until("[...document.querySelectorAll('li[data-snapshot] li[data-snapshot] strong')].some((s) => s.textContent === 'second')");
  await until("!document.querySelector('#list').innerText.includes('in progress')");

  // A restore says what it does first; then the disk stands below the first snapshot again.
  await press("Restore first");
  await until("document.getElementById('ask').open");
  assert.match(await run("document.getElementById('ask-text').textContent"), /stopped first.*can be undone/);
  await press("Restore");
  await until("document.querySelector('#list .state')?.textContent === 'stopped'");
  await until("!!document.querySelector('[aria-label=\"Undo restore of web-1\"]')");

  // A delete says what it frees.
  await press("Delete first");
  await until("document.getElementById('ask').open");
  assert.match(await run("document.getElementById('ask-text').textContent"), /frees 0 B/);
  await press("Delete");
  await until("![...document.querySelectorAll('#list strong')].some((s) => s.textContent === 'first')");
  await press("Undo restore of web-1");
  await until("document.getElementById('ask').open");
  await press("Undo");
  await until("document.getElementById('status').textContent.includes('hold')");

  // A new server, and a clone of a snapshot.
  const fill = (fields) => until(`(() => { const f = document.getElementById("ask"); if (!f.open) return false; for (const [name, value] of Object.entries(${JSON.stringify(fields)})) f.querySelector("input[name=" + name + "]").value = value; return true; })()`);
  const shows = (name) => until(`[...document.querySelectorAll("#list h3")].some((h) => h.textContent === ${JSON.stringify(name)})`);
  await press("New server");
  await fill({ name: "by page" });
  await press("Create server");
  assert.equal(await run("document.getElementById('ask').open"), true, "that is no name");
  await fill({ name: "by-page", size: "3" });
  await press("Create server");
  await shows("by-page");
  assert.match(await text(), /vda \(3\.0 GiB/);
  await press("Clone second");
  await fill({ name: "cloned" });
  await press("Create clone");
  await shows("cloned");
  await press("Delete server by-page");
  await until("document.getElementById('ask').open");
  assert.match(await run("document.getElementById('ask-text').textContent"), /1 disks and 0 snapshots.*Its backups stay/);
  await press("Delete server");
  await until("![...document.querySelectorAll('#list h3')].some((h) => h.textContent === 'by-page')");

  // Backups: unfolded, made, gone back to, deleted.
  await run(`document.querySelector('summary[aria-label="Backups of web-1"]').click()`);
  await until("document.querySelector('#list').innerText.includes('There is none.')");
  await press("New backup of web-1");
  await fill({ description: "from the page" });
  await press("Create backup");
  const labelled = (start) => until(`document.querySelector('[aria-label^="${start}"]')?.getAttribute("aria-label")`);
  const restoring = await labelled("Restore backup ");
  assert.match(await text(), /manual · \d+ MiB · from the page/);
  await press(restoring);
  await until("document.getElementById('ask').open");
  assert.match(await run("document.getElementById('ask-text').textContent"), /can be undone/);
  await press("Restore");
  await until("document.getElementById('status').textContent.includes('hold snapshot backup-')");
  await press(await labelled("Delete backup "));
  await press("Delete backup");
  await until("document.querySelector('#list').innerText.includes('There is none.')");

  // What the collector has to do shows while it does it.
  await run(`{ const real = window.fetch; let left = 3; window.fetch = (path, options) => path === "/api/v1/collector/" && left > 0
    ? Promise.resolve(new Response(JSON.stringify({ waiting_versions: left, waiting_bytes: left-- * 1048576, collected_blocks: 0 }))) : real(path, options); }`);
  await run("document.getElementById('filter').dispatchEvent(new Event('change'))");
  await until("document.getElementById('collector').innerText.includes('about 2.0 MiB to go') && document.getElementById('collector-bar').value === 1048576");
  await until("document.getElementById('collector').hidden");

  // What happens elsewhere shows without a reload.
  await run(`fetch("/api/v1/servers/", {method: "POST", headers: {Authorization: "Bearer ${token}", "Content-Type": "application/json"}, body: '{"name": "from-elsewhere"}'})`);
  await until("document.body.innerText.includes('from-elsewhere')");

  // Everything that can be pressed has a name; nothing is asked from elsewhere.
  const nameless = "[...document.querySelectorAll('button, input, a')].filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).length";
  assert.equal(await run(nameless), 0);
  await send("Page.navigate", { url: `${url}/docs` });
  await until("document.querySelectorAll('#operations article').length > 20");
  assert.match(await text(), /POST \/api\/v1\/snapshots\/\{id\}\/restore\//);
  assert.deepEqual(asked.filter((one) => !one.startsWith(url) && !one.startsWith("data:")), []);
  assert.deepEqual(problems, []);

  // Text can be read in both schemes: 4.5 to 1.
  for (const value of ["light", "dark"]) {
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
    const ratios = await run(`(() => {
      const light = (name) => { const c = getComputedStyle(document.documentElement).getPropertyValue(name).trim().replace("#", ""); const h = c.length === 3 ? [...c].map((d) => d + d).join("") : c;
        const [r, g, b] = [0, 2, 4].map((i) => parseInt(h.slice(i, i + 2), 16) / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      return ["--text", "--quiet", "--accent", "--bad"].flatMap((name) => ["--page", "--soft"].map((ground) => { const [a, b] = [light(name), light(ground)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); })); })()`);
    assert.ok(Math.min(...ratios) >= 4.5, `${value}: ${ratios}`);
  }
  console.log("done");
  child.kill();
  process.exit(0);
})().catch((error) => { console.error(error, problems); child.kill(); process.exit(1); });

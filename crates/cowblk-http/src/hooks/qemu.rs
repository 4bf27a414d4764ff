//! QEMU: its monitor (QMP) and its guest agent. JSON objects, a line each, over a unix socket.

use super::Moment;
use serde_json::{Value, json};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// The longest line that is believed, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    async fn connect(path: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|cause| format!("connect to {}: {cause}", path.display()))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    async fn send(&mut self, value: &Value) -> Result<(), String> {
        let text = format!("{value}\n");
        self.stream.write_all(text.as_bytes()).await.map_err(|cause| format!("QEMU cannot be told: {cause}"))
    }

    /// The next object; `None` when the other side closed.
    async fn next(&mut self) -> Result<Option<Value>, String> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(LINE_BYTES_MAX);
        bounded
            .read_until(b'\n', &mut line)
            .await
            .map_err(|cause| format!("QEMU cannot be heard: {cause}"))?;
        // The agent puts 0xFF before an answer that was asked to be delimited.
        let text: &[u8] = line.strip_prefix(b"\xff").unwrap_or(&line);
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(text).map(Some).map_err(|cause| format!("QEMU says no JSON: {cause}"))
    }

    /// Sends a command, and waits for its answer. Events before it are passed to `on_event`.
    async fn ask(&mut self, command: &str, mut on_event: impl FnMut(&str)) -> Result<Value, String> {
        self.send(&json!({ "execute": command })).await?;
        while let Some(mut value) = self.next().await? {
            if let Some(event) = value.get("event").and_then(Value::as_str) {
                on_event(event);
            } else if let Some(error) = value.get("error") {
                let sentence = error.get("desc").and_then(Value::as_str).unwrap_or("it failed");
                return Err(format!("{command}: {sentence}"));
            } else if let Some(answer) = value.get_mut("return") {
                return Ok(answer.take());
            }
        }
        Err(format!("{command}: QEMU closed the connection"))
    }
}

/// Stops or starts a guest through the monitor.
pub(super) async fn monitor(path: &Path, moment: Moment) -> Result<(), String> {
    let mut line = Line::connect(path).await?;
    let greeting = line.next().await?;
    if greeting.as_ref().and_then(|value| value.get("QMP")).is_none() {
        return Err(format!("{} is no QMP socket", path.display()));
    }
    line.ask("qmp_capabilities", |_| {}).await?;
    let status = line.ask("query-status", |_| {}).await?;
    let status = status.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
    if moment == Moment::Start {
        if status == "shutdown" {
            line.ask("system_reset", |_| {}).await?;
        }
        return line.ask("cont", |_| {}).await.map(drop);
    }
    if status == "shutdown" {
        return Ok(());
    }
    let mut is_down = false;
    line.ask("system_powerdown", |event| is_down |= event == "SHUTDOWN").await?;
    while !is_down {
        match line.next().await? {
            Some(value) => is_down = value.get("event").and_then(Value::as_str) == Some("SHUTDOWN"),
            None => return Ok(()), // QEMU ended with its guest.
        }
    }
    Ok(())
}

/// Freezes or thaws the file systems of a guest through its agent.
pub(super) async fn agent(path: &Path, moment: Moment) -> Result<(), String> {
    let mut line = Line::connect(path).await?;
    // Whatever an earlier client left in the channel ends before the answer to this number.
    let mut number = [0; 4];
    getrandom::fill(&mut number).map_err(|cause| format!("draw random numbers: {cause}"))?;
    let number = u32::from_le_bytes(number) >> 1;
    line.send(&json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } })).await?;
    loop {
        match line.next().await {
            Ok(Some(value)) if value.get("return") == Some(&json!(number)) => break,
            Ok(None) => return Err("the guest agent closed the connection".into()),
            Ok(Some(_)) => {}
            Err(sentence) => {
                // Half a line of an earlier client is no JSON; a socket that fails goes on failing, and ends here.
                if !sentence.starts_with("QEMU says no JSON") {
                    return Err(sentence);
                }
            }
        }
    }
    let command = if moment == Moment::Freeze { "guest-fsfreeze-freeze" } else { "guest-fsfreeze-thaw" };
    line.ask(command, |_| {}).await.map(drop)
}

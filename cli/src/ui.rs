//! Standard output is data, standard error is conversation.

use crate::args::Args;
use crate::{error, render};
use cairn_node::{Heard, NodeError, Reply, visible, visible_json};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

/// How this run talks.
pub struct Ui {
    /// What is counted are rows.
    rows: bool,
    json: bool,
    quiet: bool,
    progress_json: bool,
    bar: ProgressBar,
    /// Why standard output does not have all that was said.
    unwritten: Mutex<Option<String>>,
}

/// A line on standard error. Where nobody reads that any more, the work goes on. Names and texts of others are in it: what a terminal
/// would obey is escaped here, for all that people see.
pub fn tell(text: &str) {
    writeln!(std::io::stderr(), "{}", visible(text)).ok();
}

/// A usage error for a program that asked for JSON.
pub fn usage(message: &str, code: u8) {
    let error = json!({"kind": "usage", "message": message.trim().trim_start_matches("error: "), "hint": "see `cairn --help`"});
    println!("{}", visible_json(&json!({"ok": false, "code": code, "error": error, "warnings": []}).to_string()));
}

impl Ui {
    /// From the options; a bar only where a person looks.
    pub fn new(args: &Args) -> Self {
        let shown = args.progress == "auto" && !args.quiet && std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()) } else { ProgressBar::hidden() };
        let rows = matches!(args.verb, crate::args::Verb::Import(_) | crate::args::Verb::Export(_) | crate::args::Verb::Job { .. });
        let template = if rows {
            "{bar:30} {percent}%  {msg}  {elapsed}, about {eta} left"
        } else {
            "{bar:30} {pos}/{len} batches  {msg}  {elapsed}, about {eta} left"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { rows, json: args.json, quiet: args.quiet, progress_json: args.progress == "json", bar, unwritten: Mutex::default() }
    }

    /// Planned first, then counted.
    pub fn progress(&self, done: u64, planned: u64, bytes: u64) {
        self.bar.set_length(planned.max(self.bar.length().unwrap_or(0)));
        self.bar.set_position(done.max(self.bar.position()));
        let counted = if self.rows { "rows" } else { "bytes" };
        self.bar.set_message(if self.rows { format!("{bytes} rows") } else { render::bytes(bytes) });
        if self.progress_json {
            self.say(&json!({"done": done, "planned": planned, counted: bytes}).to_string());
        }
    }

    /// A line of conversation.
    pub fn say(&self, text: &str) {
        if !self.quiet || self.progress_json {
            tell(text);
        }
    }

    fn data(&self, text: &str) {
        let text = if self.json { visible_json(text) } else { visible(text) };
        let mut out = std::io::stdout().lock();
        // A reader that went away (a pager, `head`) wanted no more.
        if let Err(e) = writeln!(out, "{text}").and_then(|()| out.flush())
            && e.kind() != std::io::ErrorKind::BrokenPipe
        {
            *self.unwritten.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.to_string());
        }
    }

    /// The exit code, once everything was said: what could not be written is no success.
    pub fn ended(&self, code: u8) -> u8 {
        let Some(why) = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).take() else { return code };
        tell(&format!("error: the answer could not be written: {why}"));
        if matches!(code, 0 | 9) { 1 } else { code }
    }

    /// The first line of a service.
    pub fn ready(&self, ready: &serde_json::Value) {
        if self.json {
            self.data(&json!({"ok": true, "code": 0, "data": ready, "warnings": []}).to_string());
        } else {
            self.data(&format!("listening on {}", ready["listen"][0].as_str().unwrap_or_default()));
        }
    }

    /// One thing that happened.
    pub fn event(&self, event: &serde_json::Value) {
        self.data(&json!({"ok": true, "code": 0, "data": event, "warnings": []}).to_string());
    }

    /// The first line of a relay.
    pub fn relay_ready(&self, ready: &serde_json::Value) {
        if self.json {
            self.data(&json!({"ok": true, "code": 0, "data": ready, "warnings": []}).to_string());
            return;
        }
        let url = ready["url"].as_str().unwrap_or_default();
        self.data(&format!("relay at {url}"));
        self.say(&format!("on a device of a project: `cairn remote add relay '{url}'`, then `cairn sync` (Ctrl-C ends the relay)"));
    }

    /// What is shown while the command waits for a guest: with `--json` the first line.
    pub fn shown(&self, reply: &Reply) {
        if self.json {
            self.data(&json!({"ok": true, "code": 0, "data": reply.data, "warnings": reply.warnings}).to_string());
        } else {
            self.data(&render::invitation(&reply.data));
            self.say("waiting for the other device (Ctrl-C ends it) ...");
        }
    }

    /// What people at a serving device should hear of; with `--json` a line of data.
    pub fn heard(&self, heard: &Heard) {
        // `events` tells it.
        if matches!(heard, Heard::Progress { .. } | Heard::Confirmed) {
            return;
        }
        if self.json {
            self.data(&json!({"ok": true, "code": 0, "data": heard, "warnings": []}).to_string());
            return;
        }
        self.say(&match heard {
            Heard::LetIn(device) if device.check.is_empty() => format!("{} came in", device.name),
            Heard::LetIn(device) => format!("{} came in; its screen must show the digits {}", device.name, device.check),
            Heard::Synced { with, sync, new, changed, deleted } => {
                format!("sync {sync} with {with} brought {new} new, {changed} changed, {deleted} deleted")
            }
            Heard::Progress { .. } | Heard::Confirmed => String::new(),
            Heard::Asks => "a device asks to enter: see `cairn devices`".into(),
            Heard::WrongCode => "somebody typed a wrong code: it is used up, show a new one".into(),
            Heard::Carried { target, state, message, remedy } => format!("{target}: {state} {message}\n  {remedy}").trim_end().to_owned(),
            Heard::SetAside { changes: 0 } => "nothing is set aside any more".into(),
            Heard::SetAside { changes } => format!("{changes} changes are set aside"),
            Heard::Job { name, state, message } => format!("job {name}: {state} {message}").trim_end().to_owned(),
            Heard::TurnedAway { name, reason, remedy, .. } => format!("met {name}: {reason}\n  {remedy}"),
        });
    }

    /// Prints a reply; gives the exit code.
    pub fn reply(&self, args: &Args, reply: &Reply) -> u8 {
        self.bar.finish_and_clear();
        if self.json {
            let ok = matches!(reply.code, 0 | 3 | 7 | 9);
            let mut line = json!({"ok": ok, "code": reply.code, "data": reply.data, "warnings": reply.warnings});
            if !ok {
                line["error"] = error::of_reply(reply);
            }
            self.data(&line.to_string());
        } else {
            let text = render::reply(&args.verb, reply);
            if !text.is_empty() {
                self.data(&text);
            }
            for warning in &reply.warnings {
                self.say(&format!("note: {warning}"));
            }
        }
        reply.code
    }

    /// Prints an error with its next step; gives the exit code.
    pub fn failure(&self, e: &NodeError) -> u8 {
        self.bar.finish_and_clear();
        let (code, hint) = (error::code(e), error::hint(e));
        if self.json {
            let error = json!({"kind": error::kind(e), "message": e.to_string(), "hint": hint});
            self.data(&json!({"ok": false, "code": code, "error": error, "warnings": []}).to_string());
        } else {
            tell(&format!("error: {e}"));
            if let Some(hint) = hint {
                tell(&format!("  {hint}"));
            }
        }
        code
    }
}

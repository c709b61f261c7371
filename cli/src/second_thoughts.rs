//! After a sync on a terminal: what it brought, and a few seconds in which one key takes it back. It can be taken back at any time; this
//! only saves people from having to know how.

use crate::args::{Args, Verb};
use crate::run::client;
use crate::ui::Ui;
use cairn_node::{Reply, Request};
use serde_json::Value;
use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Seconds the offer stands.
const SECONDS: u64 = 10;

/// What a sync brought, in words; `None` if nothing.
fn brought(data: &Value) -> Option<String> {
    let targets = data["targets"].as_array()?;
    let sum = |what: &str| targets.iter().filter_map(|t| t["observations"][what].as_u64()).sum::<u64>();
    let parts: Vec<String> = ["new", "changed", "deleted"]
        .map(|what| (sum(what), what))
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if parts.is_empty() { None } else { Some(parts.join(", ")) }
}

/// `true` if `u` is typed before the time is over; any other line, or the end of input, goes on at once.
fn wanted(lines: &Receiver<String>, seconds: u64, second: Duration, tell: &mut dyn FnMut(u64)) -> bool {
    for left in (1..=seconds).rev() {
        tell(left);
        match lines.recv_timeout(second) {
            Ok(line) => return line.trim().eq_ignore_ascii_case("u"),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    false
}

/// Offers to take a sync back, where a person looks and something came.
pub fn offer(args: &Args, ui: &Ui, reply: &Reply) {
    let looks = std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
    let (Verb::Sync(sync), true, false) = (&args.verb, looks, args.json || args.quiet) else { return };
    if sync.dry_run {
        return;
    }
    let (Some(brought), Some(sync)) = (brought(&reply.data), reply.data["sync"].as_str()) else { return };
    ui.say(&format!(
        "sync {sync} brought {brought}. Type u and Enter to set it aside on this device (Enter goes on; later: `cairn undo {sync}`)"
    ));
    let (sender, lines) = channel();
    // It ends with the program if nothing is typed.
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {
            sender.send(line).ok();
        }
    });
    let take_back = wanted(&lines, SECONDS, Duration::from_secs(1), &mut |left| eprint!("\r{left:2} s "));
    eprint!("\r     \r");
    if take_back {
        let undone = client(args).and_then(|c| c.ask(Request::Undo { sync: sync.to_owned(), later: false }, &|_, _, _| {}));
        match undone {
            Ok(undone) => ui.say(&crate::render_care::undone(&undone.data)),
            Err(e) => {
                ui.failure(&e);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn typed(lines: &[&str], ends: bool) -> (bool, Vec<u64>) {
        let (sender, receiver) = channel();
        lines.iter().for_each(|l| sender.send((*l).to_owned()).unwrap());
        let held = (!ends).then_some(sender);
        let mut told = Vec::new();
        let answer = wanted(&receiver, 3, Duration::from_millis(1), &mut |left| told.push(left));
        drop(held);
        (answer, told)
    }

    #[test]
    fn only_a_u_takes_a_sync_back() {
        assert_eq!(typed(&["u\n"], false), (true, vec![3]));
        assert!(typed(&[" U \n"], false).0);
        assert_eq!(typed(&["\n"], false), (false, vec![3]));
        assert!(!typed(&["undo\n"], false).0);
        assert_eq!(typed(&[], true), (false, vec![3]), "the end of input goes on at once");
        assert_eq!(typed(&[], false), (false, vec![3, 2, 1]), "the countdown never runs backwards");
    }

    #[test]
    fn nothing_is_offered_where_nothing_came() {
        let of = |new: u64| json!({"targets": [{"observations": {"new": new, "changed": 0, "deleted": 0}}, {"state": "unreached"}]});
        assert_eq!((brought(&of(0)), brought(&of(2)).as_deref()), (None, Some("2 new")));
    }
}

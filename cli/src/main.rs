//! `cairn`: the command line. Parses, asks the node, prints. Every decision about data is the node's.

mod args;
mod args_care;
mod args_config;
mod args_job;
mod args_relay;
mod args_rows;
mod args_sync;
mod care;
mod config;
mod demo;
mod error;
mod job;
mod membership;
mod relay;
mod render;
mod render_care;
mod render_config;
mod render_job;
mod render_relay;
mod render_rows;
mod render_settling;
mod render_sync;
mod rows;
mod run;
mod second_thoughts;
mod service;
mod ui;

/// Rows are read by one thread and written by another: the system's allocator spends a third of an import on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use clap::Parser;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

fn main() -> ExitCode {
    let args = match args::Args::try_parse() {
        // A variable that is set to nothing is not set.
        Ok(args) => args::Args { project: args.project.filter(|p| !p.is_empty()), ..args },
        Err(e) => {
            let code = if e.use_stderr() { error::USAGE } else { 0 };
            if e.use_stderr() && std::env::args().any(|a| a == "--json") {
                ui::usage(&e.to_string(), code);
            } else {
                // A closed terminal is not worth an error of its own.
                e.print().ok();
            }
            return ExitCode::from(code);
        }
    };
    let ui = ui::Ui::new(&args);
    ExitCode::from(told_if_it_fails(|| {
        let code = match run::run(&args, &ui) {
            Ok(reply) => {
                let code = ui.reply(&args, &reply);
                second_thoughts::offer(&args, &ui, &reply);
                code
            }
            Err(e) => ui.failure(&e),
        };
        ui.ended(code)
    }))
}

/// What Rust ends a program with that failed inside.
const FAILED_INSIDE: u8 = 101;

/// Where a library fails inside on a damaged file, the store catches it and says so in words: then people need not read where. What
/// nobody catches is told, and what fails on other threads, as ever.
fn told_if_it_fails(work: impl FnOnce() -> u8) -> u8 {
    let said: &'static Mutex<String> = Box::leak(Box::default());
    let (own, as_ever) = (std::thread::current().id(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| match std::thread::current().id() == own {
        true => *said.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string(),
        false => as_ever(info),
    }));
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        ui::tell(&format!("error: cairn failed inside, and this is a bug: {said}"));
        FAILED_INSIDE
    })
}

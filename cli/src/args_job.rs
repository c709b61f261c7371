//! What can be typed about jobs.

use crate::args_rows::ReadArgs;
use clap::Subcommand;
use std::path::PathBuf;

pub const JOB_HELP: &str = "A job is a file: where rows come from, what is done with them, what follows, and when (see docs/guide/jobs.md).

Examples:
  cairn job new boxes.toml --input /share/boxes.xlsx --dataset boxes --key \"Box No\" --mode upsert --schedule \"daily 02:30\"
  cairn job check boxes.toml
  cairn job run boxes.toml --json
  cairn job install boxes.toml                  `cairn serve` runs it, also what was missed
  cairn job install boxes.toml --systemd        or a timer of the system: prints the files to copy";

#[derive(Subcommand, Debug)]
pub enum JobVerb {
    /// Do it now
    Run {
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Look at the rows only; write nothing, and nothing follows
        #[arg(long)]
        dry_run: bool,
    },
    /// What a run would do, and what is wrong with the file
    Check {
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
    },
    /// Write a job's file; asks for what is not said
    New(Box<NewJob>),
    /// Let `serve` run it by its schedule, or print what another scheduler needs
    Install {
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        /// Print a systemd service and timer
        #[arg(long, conflicts_with = "cron")]
        systemd: bool,
        /// Print a line for crontab
        #[arg(long)]
        cron: bool,
    },
    /// `serve` does not run it any more
    Remove { name: String },
    /// Jobs that `serve` runs: when they ran and when they are due
    List,
    /// What runs did
    Log {
        name: Option<String>,
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Keep a secret (its first line on standard input) in the key store, for `keystore:NAME` in a job
    Secret { name: String },
}

#[derive(clap::Args, Debug)]
pub struct NewJob {
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Path, pattern or https address of the table
    #[arg(long)]
    pub input: Option<String>,
    /// The table's name here
    #[arg(long)]
    pub dataset: Option<String>,
    #[arg(long, value_parser = ["append", "upsert", "replace", "delete"])]
    pub mode: Option<String>,
    /// Category for new rows without one
    #[arg(long)]
    pub category: Option<String>,
    #[arg(long, value_name = "N")]
    pub max_delete: Option<u64>,
    /// hourly, every 15m, daily 02:30, weekly mon 02:30, monthly 1 02:30
    #[arg(long)]
    pub schedule: Option<String>,
    /// Sync with this target afterwards
    #[arg(long, value_name = "TARGET")]
    pub then_sync: Vec<String>,
    /// Export to this file afterwards
    #[arg(long, value_name = "FILE")]
    pub then_export: Option<String>,
    #[command(flatten)]
    pub read: ReadArgs,
}

//! `cairn-relay`: a relay and nothing else, for a small server.

use cairn_relay_cli::{ServeArgs, run};
use clap::Parser;
use std::process::ExitCode;

/// A relay: keeps sealed chunks for projects it knows nothing of
#[derive(Parser)]
#[command(name = "cairn-relay", version)]
struct Args {
    /// Print the ready line as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

async fn until_told() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let running = match run(&args.serve, |line| eprintln!("{line}")).await {
        Ok(running) => running,
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::FAILURE;
        }
    };
    match args.json {
        true => println!("{}", serde_json::json!({"ok": true, "code": 0, "data": running.ready, "warnings": []})),
        false => println!("relay at {}", running.ready["url"].as_str().unwrap_or_default()),
    }
    // Without signals it ends when it is killed, which it survives.
    until_told().await.ok();
    running.stop().await;
    ExitCode::SUCCESS
}

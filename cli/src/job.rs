//! Jobs: requests from arguments, questions to people, text for other schedulers.

use crate::args::{Args, JobVerb};
use crate::args_job::NewJob;
use crate::render_job;
use crate::rows::read_options;
use crate::run::{absolute, client, home};
use crate::service::{quoted, words};
use crate::ui::Ui;
use cairn_node::{ExportStep, Job, JobRequest, NodeError, ReadOptions, Reply, Request, Schedule, Step};
use std::io::{BufRead, IsTerminal};
use std::path::Path;

pub fn job(args: &Args, what: &JobVerb, ui: &Ui) -> Result<Reply, NodeError> {
    let client = client(args)?;
    let ask = |request| client.ask(Request::Job(request), &|done, planned, rows| ui.progress(done, planned, rows));
    match what {
        JobVerb::Run { file, dry_run } => ask(JobRequest::Run { file: absolute(file)?, dry_run: *dry_run }),
        JobVerb::Check { file } => ask(JobRequest::Check { file: absolute(file)? }),
        JobVerb::New(new) => write_new(new, &ask, ui),
        JobVerb::Install { file, systemd: true, .. } => timer(args, file),
        JobVerb::Install { file, cron: true, .. } => cron(args, file),
        JobVerb::Install { file, .. } => ask(JobRequest::Install { file: absolute(file)? }),
        JobVerb::Remove { name } => ask(JobRequest::Remove { name: name.clone() }),
        JobVerb::List => ask(JobRequest::List),
        JobVerb::Log { name, limit } => ask(JobRequest::Log { name: name.clone(), limit: *limit }),
        JobVerb::Secret { name } => {
            let secret = line()?.ok_or_else(|| NodeError::Input { message: "the secret is read from standard input".into() })?;
            ask(JobRequest::Secret { name: name.clone(), secret })
        }
    }
}

fn line() -> Result<Option<String>, NodeError> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text).map_err(|e| NodeError::Input { message: e.to_string() })?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()).filter(|t| !t.is_empty()))
}

/// Asks where somebody can answer.
fn asked(told: Option<String>, question: &str, default: &str, ui: &Ui) -> Result<Option<String>, NodeError> {
    if told.is_some() || !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Ok(told);
    }
    let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
    ui.say(&format!("{question}{shown}"));
    Ok(line()?.or_else(|| Some(default.to_owned()).filter(|d| !d.is_empty())))
}

type Ask<'a> = &'a dyn Fn(JobRequest) -> Result<Reply, NodeError>;

fn write_new(new: &NewJob, ask: Ask<'_>, ui: &Ui) -> Result<Reply, NodeError> {
    let input = asked(new.input.clone(), "Where is the table? (a path, a pattern, or https://...)", "", ui)?;
    let input = input.ok_or_else(|| NodeError::Input { message: "a job needs `--input`".into() })?;
    let mut read = read_options(&new.read);
    preview(&input, &read, ask, ui);
    let stem = new.file.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let dataset = asked(new.dataset.clone(), "What is the table called here?", &stem, ui)?;
    if read.key.is_empty() {
        let key = asked(None, "Which column identifies a row? (several with a comma; none: every row is new)", "", ui)?;
        read.key = key.iter().flat_map(|k| k.split(',')).map(|k| k.trim().to_owned()).filter(|k| !k.is_empty()).collect();
    }
    let usual = if read.key.is_empty() { "append" } else { "upsert" };
    let mode =
        asked(new.mode.clone(), "What is done with rows? append, upsert, replace, delete", usual, ui)?.unwrap_or_else(|| usual.into());
    let category = asked(new.category.clone(), "Category of new rows?", "", ui)?;
    let schedule = asked(new.schedule.clone(), "When? (daily 02:30, hourly, weekly mon 06:00; nothing: only when told)", "", ui)?;
    let mut then = Vec::new();
    if let Some(file) = &new.then_export {
        then.push(Step::Export(ExportStep { file: file.clone(), ..ExportStep::default() }));
    }
    if !new.then_sync.is_empty() {
        then.push(Step::Sync(new.then_sync.clone()));
    }
    let job = Job {
        input: Some(if input.contains("://") { input } else { absolute(Path::new(&input))? }),
        dataset: dataset.filter(|_| mode != "append" || !read.key.is_empty()),
        key: std::mem::take(&mut read.key),
        mode,
        category,
        max_delete: new.max_delete,
        schedule,
        map: std::mem::take(&mut read.map),
        read,
        then,
        ..Job::default()
    };
    ask(JobRequest::Write { file: absolute(&new.file)?, job: Box::new(job) })
}

/// What the columns are taken for, before questions about them. A table that is not there yet has none.
fn preview(input: &str, read: &ReadOptions, ask: Ask<'_>, ui: &Ui) {
    if input.contains("://") || input.contains(['*', '?']) {
        return;
    }
    let file = absolute(Path::new(input)).unwrap_or_default();
    if let Ok(told) = ask(JobRequest::Preview { file, read: Box::new(ReadOptions { key: Vec::new(), ..read.clone() }) }) {
        ui.say(&render_job::preview(&told.data));
    }
}

fn scheduled(file: &Path) -> Result<(Job, Schedule), NodeError> {
    let job = Job::read(file)?;
    let missing = || NodeError::Refused {
        message: format!("{}: it has no schedule", file.display()),
        remedy: "add one, as `schedule = \"daily 02:30\"`".into(),
    };
    let schedule = Schedule::parse(job.schedule.as_deref().ok_or_else(missing)?).map_err(|message| NodeError::Input { message })?;
    Ok((job, schedule))
}

/// The words that run a job of this project.
fn command(args: &Args, file: &Path) -> Result<Vec<String>, NodeError> {
    let home = home(args)?;
    let folder = home.project(args.project.as_deref())?;
    let project = folder.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let mut all = words(args, home.path(), &project)?;
    all.extend(["--quiet".into(), "job".into(), "run".into(), absolute(file)?]);
    Ok(all)
}

/// As cron's shell reads a word; cron itself takes `%` for the end of the line.
fn for_cron(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@,".contains(c);
    let word = if word.chars().all(plain) && !word.is_empty() { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) };
    word.replace('%', "\\%")
}

fn timer(args: &Args, file: &Path) -> Result<Reply, NodeError> {
    let (job, schedule) = scheduled(file)?;
    let when = match (&schedule, schedule.on_calendar()) {
        (_, Some(calendar)) => format!("OnCalendar={calendar}\nPersistent=true"),
        (Schedule::Every(span), None) => format!("OnBootSec=1min\nOnUnitActiveSec={}s", span.as_secs()),
        (_, None) => {
            let message = "systemd cannot say that schedule: months without that day are passed by".to_owned();
            return Err(NodeError::Refused { message, remedy: "take the 28th or the 31st, or use `cairn serve`".into() });
        }
    };
    let name = job.name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect::<String>();
    let (name, called) = (format!("cairn-{name}"), job.name.replace(['\n', '%'], " "));
    let command = command(args, file)?.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" ");
    let service = format!("[Unit]\nDescription=Cairn job {called}\n\n[Service]\nType=oneshot\nExecStart={command}\n");
    let timer = format!("[Unit]\nDescription=When Cairn job {called} runs\n\n[Timer]\n{when}\n\n[Install]\nWantedBy=timers.target\n");
    let data = serde_json::json!({
        "files": [
            {"path": format!("~/.config/systemd/user/{name}.service"), "text": service},
            {"path": format!("~/.config/systemd/user/{name}.timer"), "text": timer},
        ],
        "then": format!("systemctl --user enable --now {name}.timer"),
    });
    Ok(Reply { data, ..Reply::default() })
}

fn cron(args: &Args, file: &Path) -> Result<Reply, NodeError> {
    let (_, schedule) = scheduled(file)?;
    let when = schedule.cron().ok_or_else(|| NodeError::Refused {
        message: "cron cannot say that schedule".into(),
        remedy: "use `--systemd`, or `cairn job install` with `cairn serve`".into(),
    })?;
    let line = format!("{when} {}", command(args, file)?.iter().map(|w| for_cron(w)).collect::<Vec<_>>().join(" "));
    Ok(Reply { data: serde_json::json!({"cron": line}), ..Reply::default() })
}

//! Rows out to a SODA endpoint (Socrata's producer API: dev.socrata.com/publishers/soda-producer): upsert and append by POST, replace
//! by PUT, deletion by rows that say `":deleted": true`.

use super::file::{Job, SodaStep};
use super::secret::secret;
use crate::export::Rounding;
use crate::reading::filter;
use crate::request::{ListRequest, Reply};
use crate::{Node, NodeError};
use cairn_model::{FieldValue, Instant, Observation, Value as Scalar};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Rows of one request where the job does not say.
const BATCH: usize = 1000;
/// Tries of one request.
const TRIES: u32 = 5;
/// Requests spent on finding the rows at fault in batches that were refused.
const SEARCHES: u32 = 400;
/// Bytes of a whole replacement, which is one request.
const REPLACE_BYTES: u64 = 512 << 20;
/// The longest pause that a server is granted.
const LONGEST: Duration = Duration::from_secs(30);
/// Faults told.
const LISTED: usize = 100;

/// Secrets as they were found; they are shown nowhere.
pub(crate) struct Secrets {
    user: Option<(String, String)>,
    token: Option<String>,
    app_token: Option<String>,
}

/// An address over TLS; without it only on this machine, where tests are.
pub(crate) fn https_or_here(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err("only https is used: a password must not travel in the open".into()),
    }
}

/// Looks for the step's secrets where it says.
pub(crate) fn secrets(node: &Node, step: &SodaStep, job: &Path) -> Result<Secrets, NodeError> {
    let find = |place: &Option<String>| place.as_deref().map(|p| secret(node, p, job)).transpose();
    let password = find(&step.password)?;
    let user = match (&step.user, password) {
        (Some(user), Some(password)) => Some((user.clone(), password)),
        (None, None) => None,
        _ => return Err(NodeError::input("soda: `user` and `password` belong together")),
    };
    let token = find(&step.token)?;
    if user.is_none() && token.is_none() {
        return Err(NodeError::input("soda: nobody may publish without `user` and `password`, or `token`"));
    }
    Ok(Secrets { user, token, app_token: find(&step.app_token)? })
}

/// A name as that service makes them: small letters, digits and underscores.
fn api_name(field: &str) -> String {
    let mut out = String::new();
    for c in field.to_lowercase().chars() {
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if out.ends_with('_') || out.is_empty() => {}
            _ => out.push('_'),
        }
    }
    let out = out.trim_end_matches('_').to_owned();
    if out.starts_with(|c: char| c.is_ascii_digit()) || out.is_empty() { format!("_{out}") } else { out }
}

/// A floating timestamp of that service.
fn floating(at: &str) -> Option<String> {
    let utc = Instant::from_unix_ms(Instant::parse(at).ok()?.unix_ms())?.to_rfc3339();
    Some(utc.trim_end_matches('Z').to_owned())
}

fn value(v: &FieldValue) -> Value {
    match v {
        FieldValue::One(Scalar::Integer(n)) => json!(n),
        FieldValue::One(Scalar::Decimal(n)) => json!(n),
        FieldValue::One(Scalar::Bool(b)) => json!(b),
        other => json!(other.display()),
    }
}

fn row(id: &str, seen: &Observation, columns: &BTreeMap<String, String>) -> Map<String, Value> {
    let mut all: Vec<(String, Value)> = vec![("cairn_id".into(), json!(id)), ("category".into(), json!(seen.category))];
    if let Some(place) = seen.place {
        all.push(("latitude".into(), json!(place.lat)));
        all.push(("longitude".into(), json!(place.lon)));
        all.push(("position".into(), json!({"type": "Point", "coordinates": [place.lon, place.lat]})));
    }
    all.extend(seen.at.as_deref().and_then(floating).map(|t| ("time".to_owned(), json!(t))));
    all.extend(seen.note.clone().map(|n| ("note".to_owned(), json!(n))));
    all.extend(seen.fields.iter().map(|(f, v)| (f.clone(), value(v))));
    // An upsert leaves what it does not name: what is gone here must be named.
    let mut out: Map<String, Value> = columns.values().map(|column| (column.clone(), Value::Null)).collect();
    for (name, value) in all {
        if let Some(column) = columns.get(&name) {
            out.insert(column.clone(), value);
        }
    }
    out
}

/// What each of our names is called there.
fn columns_of(node: &Node, step: &SodaStep, filter: &cairn_store::Filter) -> Result<BTreeMap<String, String>, NodeError> {
    let mut out = step.columns.clone();
    if out.is_empty() {
        // The position is a column of its own only where the job says which.
        out.extend(["cairn_id", "category", "latitude", "longitude", "time", "note"].map(|n| (n.to_owned(), n.to_owned())));
        node.store().each_observation(filter, &mut |_, seen| {
            for (name, _) in seen.fields.iter().filter(|(f, _)| !out.contains_key(&**f)).collect::<Vec<_>>() {
                out.insert(name.to_string(), api_name(name));
            }
            Ok(())
        })?;
    }
    let mut seen: BTreeMap<&String, &String> = BTreeMap::new();
    for (ours, theirs) in &out {
        if let Some(other) = seen.insert(theirs, ours) {
            let message = format!("`{other}` and `{ours}` would both be `{theirs}` there");
            return Err(NodeError::refused(message, "say which goes where: `columns = { ... }`"));
        }
    }
    let key = step.key.clone().unwrap_or_else(|| "cairn_id".into());
    if step.method == "delete" && !out.values().any(|c| *c == key) {
        return Err(NodeError::refused(
            format!("no column here is `{key}` there, so nothing can be deleted by it"),
            "name it in `columns`, or another `key`",
        ));
    }
    Ok(out)
}

/// Rows for the step, one JSON object a line, in a file that nobody else sees.
fn rows(node: &Node, step: &SodaStep) -> Result<(tempfile::NamedTempFile, u64), NodeError> {
    let deleting = step.method == "delete";
    let round = step.round.as_deref().map(Rounding::parse).transpose()?;
    let list = ListRequest { category: step.category.clone(), dataset: step.dataset.clone(), deleted: deleting, ..ListRequest::default() };
    let filter = filter(&node.store(), &list)?;
    let columns = columns_of(node, step, &filter)?;
    let store = node.store();
    let fault = |e: std::io::Error| NodeError::file(node.folder(), e);
    let file = tempfile::NamedTempFile::new_in(node.folder()).map_err(fault)?;
    let mut out = std::io::BufWriter::new(file.as_file());
    let mut count = 0;
    let mut failed = None;
    store.each_observation(&filter, &mut |id, seen| {
        if deleting != seen.deleted || failed.is_some() {
            return Ok(());
        }
        let mut seen = seen.clone();
        if let Some(round) = round {
            round.apply(&mut seen);
        }
        let mut row = row(&id.to_string(), &seen.owned(), &columns);
        if deleting {
            let key = step.key.clone().unwrap_or_else(|| "cairn_id".into());
            row.retain(|name, _| *name == key);
            row.insert(":deleted".into(), json!(true));
        }
        count += 1;
        failed = writeln!(out, "{}", Value::Object(row)).err();
        Ok(())
    })?;
    drop(store);
    if let Some(e) = failed.or_else(|| out.flush().err()) {
        return Err(fault(e));
    }
    drop(out);
    Ok((file, count))
}

/// What the service did.
#[derive(Default)]
struct Outcome {
    created: u64,
    updated: u64,
    deleted: u64,
    errors: Vec<Value>,
    error_count: u64,
    resumed_at: u64,
}

struct Endpoint {
    client: Client,
    url: Url,
    secrets: Secrets,
    /// A request whose answer was lost may be sent again: it does not add rows twice.
    repeatable: bool,
    searches: u32,
}

/// Why a request was not carried out.
enum Refused {
    /// The rows: `message` is the service's.
    Rows(String),
    /// Nothing arrived there, or it was turned away whole.
    Unsent(NodeError),
    /// Anything else: what arrived is not known.
    Other(NodeError),
}

/// Publishes what the step says. Batches that were acknowledged are not sent again by a run that follows one that broke off.
pub(crate) async fn publish(node: &Arc<Node>, job: &Job, step: &SodaStep, path: &Path) -> Result<Reply, NodeError> {
    let domain = if step.domain.contains("://") { step.domain.clone() } else { format!("https://{}", step.domain) };
    let url = https_or_here(&format!("{}/resource/{}.json", domain.trim_end_matches('/'), step.id)).map_err(NodeError::input)?;
    let client = cairn_relay::web_client(&node.network, false).map_err(|e| NodeError::input(e.to_string()))?;
    let secrets = secrets(node, step, path)?;
    let (file, count) = tokio::task::block_in_place(|| rows(node, step))?;
    let mut endpoint = Endpoint { client, url, secrets, repeatable: step.method != "append", searches: 0 };
    let outcome = if step.method == "replace" {
        replace(&mut endpoint, file.path(), count).await?
    } else {
        let mark = Mark::open(node, job, step, file.path())?;
        in_batches(&mut endpoint, file.path(), step.batch.unwrap_or(BATCH).max(1), mark).await?
    };
    let mut reply = Reply::new(json!({
        "soda": step.id, "method": step.method, "rows": count, "created": outcome.created, "updated": outcome.updated,
        "deleted": outcome.deleted, "rejected": outcome.error_count, "rejects": outcome.errors, "resumed_at": outcome.resumed_at,
    }));
    reply.code = if outcome.error_count > 0 { 3 } else { 0 };
    Ok(reply)
}

async fn replace(endpoint: &mut Endpoint, file: &Path, count: u64) -> Result<Outcome, NodeError> {
    let fault = |e: std::io::Error| NodeError::file(file, e);
    if std::fs::metadata(file).map_err(fault)?.len() > REPLACE_BYTES {
        return Err(NodeError::refused(
            format!("{count} rows are more than one request holds"),
            "use `method = \"upsert\"`, and `delete` for what is gone",
        ));
    }
    if count == 0 {
        return Err(NodeError::refused("there are no rows to replace the data set by", "empty it there by hand if that is meant"));
    }
    let lines: Vec<String> =
        std::io::BufReader::new(std::fs::File::open(file).map_err(fault)?).lines().collect::<Result<_, _>>().map_err(fault)?;
    let mut outcome = Outcome::default();
    match endpoint.send(Method::PUT, &lines).await {
        Ok(answer) => outcome.add(&answer, 0),
        Err(Refused::Rows(message)) => {
            return Err(NodeError::input(format!("the service refuses the rows: {message}; nothing was replaced")));
        }
        Err(Refused::Other(e) | Refused::Unsent(e)) => return Err(e),
    }
    Ok(outcome)
}

async fn in_batches(endpoint: &mut Endpoint, file: &Path, size: usize, mut mark: Mark) -> Result<Outcome, NodeError> {
    let fault = |e: std::io::Error| NodeError::file(file, e);
    let mut outcome = Outcome { resumed_at: mark.next, ..Outcome::default() };
    let mut lines = std::io::BufReader::new(std::fs::File::open(file).map_err(fault)?).lines().skip(mark.next as usize);
    loop {
        let batch: Vec<String> = lines.by_ref().take(size).collect::<Result<_, _>>().map_err(fault)?;
        if batch.is_empty() {
            mark.done();
            return Ok(outcome);
        }
        deliver(endpoint, &batch, &mut mark, &mut outcome).await?;
    }
}

/// Sends a batch; where the service refuses it, halves of it, until the rows at fault stand alone.
async fn deliver(endpoint: &mut Endpoint, batch: &[String], mark: &mut Mark, outcome: &mut Outcome) -> Result<(), NodeError> {
    let first = mark.next;
    // Parts are sent in their order, so that what was acknowledged is always a beginning.
    let mut open = vec![(0, batch.len())];
    while let Some((from, to)) = open.pop() {
        if !endpoint.repeatable {
            mark.write(true)?;
        }
        match endpoint.send(Method::POST, &batch[from..to]).await {
            Ok(answer) => {
                outcome.add(&answer, first + from as u64);
                mark.advance((to - from) as u64)?;
            }
            Err(Refused::Rows(message)) if to - from == 1 || endpoint.searches >= SEARCHES => {
                for n in from..to {
                    outcome.refuse(first + n as u64, &message);
                }
                mark.advance((to - from) as u64)?;
            }
            Err(Refused::Rows(_)) => {
                endpoint.searches += 1;
                let middle = from + (to - from) / 2;
                open.extend([(middle, to), (from, middle)]);
            }
            Err(Refused::Unsent(e)) => {
                // Nothing of it arrived: the next run may send it.
                mark.write(false)?;
                return Err(e);
            }
            Err(Refused::Other(e)) => return Err(e),
        }
    }
    Ok(())
}

impl Outcome {
    fn add(&mut self, answer: &Value, first: u64) {
        let number = |name: &str| answer[name].as_u64().unwrap_or(0);
        self.created += number("Rows Created");
        self.updated += number("Rows Updated");
        self.deleted += number("Rows Deleted");
        // Some answers count errors, others list them.
        let listed = ["Errors", "errors"].iter().find_map(|n| answer[*n].as_array());
        match listed {
            Some(errors) => {
                for e in errors {
                    let at = first + e["index"].as_u64().unwrap_or(0);
                    self.refuse(at, e["error"].as_str().or_else(|| e["message"].as_str()).unwrap_or("refused"));
                }
            }
            None => self.error_count += number("Errors"),
        }
    }

    fn refuse(&mut self, row: u64, message: &str) {
        self.error_count += 1;
        if self.errors.len() < LISTED {
            self.errors.push(json!({"row": row + 1, "reason": message.chars().take(300).collect::<String>()}));
        }
    }
}

impl Endpoint {
    async fn send(&self, method: Method, lines: &[String]) -> Result<Value, Refused> {
        let body = format!("[{}]", lines.join(","));
        let mut last = String::new();
        let mut arrived = false;
        for n in 0..TRIES {
            if n > 0 {
                tokio::time::sleep(Duration::from_millis(200 << n.min(6))).await;
            }
            let mut request =
                self.client.request(method.clone(), self.url.clone()).header("Content-Type", "application/json").body(body.clone());
            if let Some((user, password)) = &self.secrets.user {
                request = request.basic_auth(user, Some(password));
            }
            if let Some(token) = &self.secrets.token {
                request = request.header("Authorization", format!("OAuth {token}"));
            }
            if let Some(token) = &self.secrets.app_token {
                request = request.header("X-App-Token", token);
            }
            match request.send().await {
                Ok(response) => match self.judge(response).await? {
                    Ok(answer) => return Ok(answer),
                    Err(why) => last = why,
                },
                Err(e) => {
                    let unsent = e.is_connect();
                    arrived |= !unsent;
                    last = e.without_url().to_string();
                    // Whether it arrived is not known: rows that are only added must not be added twice.
                    if !self.repeatable && !unsent {
                        return Err(Refused::Other(self.lost(&last)));
                    }
                }
            }
        }
        let told = self.unreached(&last);
        Err(if arrived { Refused::Other(told) } else { Refused::Unsent(told) })
    }

    /// `Ok(Err)` is worth another try.
    async fn judge(&self, response: reqwest::Response) -> Result<Result<Value, String>, Refused> {
        let status = response.status();
        let asked = response.headers().get("Retry-After").and_then(|v| v.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        let text = response.text().await.unwrap_or_default();
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let said = answer["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        match status {
            s if s.is_success() && answer.is_object() => Ok(Ok(answer)),
            s if s.is_success() && self.repeatable => Ok(Err("the answer is not one of SODA".into())),
            s if s.is_success() => Err(Refused::Other(self.lost("the answer is not one of SODA"))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Refused::Unsent(NodeError::not_allowed(
                format!("the service does not let this user publish: {said}"),
                "look at `user`, `password`, `token` of the job, and at the rights there",
            ))),
            StatusCode::NOT_FOUND => Err(Refused::Unsent(NodeError::NotFound { what: format!("data set at {}", self.url) })),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT => Err(Refused::Rows(said)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                tokio::time::sleep(asked.unwrap_or_default().min(LONGEST)).await;
                Ok(Err(said))
            }
            s if s.is_server_error() && self.repeatable => Ok(Err(said)),
            _ => Err(Refused::Other(NodeError::input(format!("the service answers {status}: {said}")))),
        }
    }

    fn unreached(&self, why: &str) -> NodeError {
        NodeError::RelayUnreached { message: format!("{}: {why}; what was taken so far is not sent again", self.url) }
    }

    fn lost(&self, why: &str) -> NodeError {
        NodeError::refused(
            format!("{}: {why}: whether the last rows arrived is not known", self.url),
            "look at the data set there; with a row identifier `method = \"upsert\"` can be repeated safely",
        )
    }
}

/// How far a publication came, so that the next run goes on there if nothing has changed.
struct Mark {
    path: std::path::PathBuf,
    of: String,
    next: u64,
}

fn name_of(file: &mut std::fs::File) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

impl Mark {
    fn open(node: &Node, job: &Job, step: &SodaStep, rows: &Path) -> Result<Self, NodeError> {
        let fault = |e: std::io::Error| NodeError::file(rows, e);
        // The same rows for the same place: then what was acknowledged needs no second time.
        let mut file = std::fs::File::open(rows).map_err(fault)?;
        let of = format!("{} {} {} {}", step.domain, step.id, step.method, name_of(&mut file).map_err(fault)?);
        let name: String = job.name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let path = node.folder().join(format!("soda-{name}-{}-{}", step.id, step.method));
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let (told, next, state) = (lines.next().unwrap_or_default(), lines.next().and_then(|n| n.parse().ok()).unwrap_or(0), lines.next());
        let unclear = state == Some("sending") || (!told.is_empty() && told != of);
        if step.method == "append" && unclear {
            let message = format!(
                "an earlier run broke off after row {next}, and what arrived of it is not known: appending again could add rows twice"
            );
            return Err(NodeError::refused(message, format!("look at the data set there, then remove {}", path.display())));
        }
        Ok(Self { path, next: if told == of { next } else { 0 }, of })
    }

    fn advance(&mut self, rows: u64) -> Result<(), NodeError> {
        self.next += rows;
        self.write(false)
    }

    /// `sending`: rows after these are on their way, and cannot be sent twice.
    fn write(&self, sending: bool) -> Result<(), NodeError> {
        let temporary = self.path.with_extension("part");
        let state = if sending { "sending" } else { "sent" };
        let written = std::fs::write(&temporary, format!("{}\n{}\n{state}\n", self.of, self.next));
        written.and_then(|()| std::fs::rename(&temporary, &self.path)).map_err(|e| NodeError::file(&self.path, e))
    }

    fn done(&self) {
        // If it stays, it is of these rows only, and a next run finds nothing left to send.
        std::fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_service_makes() {
        assert_eq!(api_name("Box No."), "box_no");
        assert_eq!(api_name("2nd field"), "_2nd_field");
        assert_eq!(floating("2014-03-26T22:38:01+02:00").as_deref(), Some("2014-03-26T20:38:01"));
    }

    #[test]
    fn a_password_travels_only_under_tls() {
        assert!(https_or_here("http://data.example.org/x").is_err());
        assert!(https_or_here("https://data.example.org/x").is_ok());
        assert!(https_or_here("http://127.0.0.1:1/x").is_ok());
        assert!(https_or_here("http://127.0.0.1.example.org/x").is_err());
    }
}

//! Saved jobs, through the real binary: runs, schedules, what follows, and a service that rows are published to.

use cairn_tests::{Device, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Waits for something that another process does, at most half a minute.
fn eventually(mut there: impl FnMut() -> bool) -> bool {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while std::time::Instant::now() < until {
        if there() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn one_file_says_upsert_export_and_sync() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Boxes"]);
    write(root.path(), "boxes-1.csv", "No,eggs\n1,3\n");
    let newest = write(root.path(), "boxes-2.csv", "No,eggs\n1,4\n2,5\n");
    std::fs::create_dir(root.path().join("share")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::open(&newest).unwrap().set_modified(later).unwrap();
    let job = write(
        root.path(),
        "boxes.toml",
        "input = \"boxes-*.csv\"\ndataset = \"boxes\"\nkey = [\"No\"]\nmode = \"upsert\"\nsettle = \"1ms\"\n\
         [[then]]\nexport = { file = \"out.csv\", dataset = \"boxes\" }\n[[then]]\nsync = [\"share\"]\n",
    );
    assert_eq!(a.ok(&["job", "check", &job])["import"]["created"], 2);
    assert_eq!(a.ok(&["list"])["count"], 0, "a check writes nothing");
    let run = a.ok(&["job", "run", &job]);
    assert_eq!((&run["state"], &run["import"]["created"], &run["steps"][0]["data"]["exported"]), (&json!("done"), &json!(2), &json!(2)));
    assert_eq!(run["steps"][1]["data"]["targets"][0]["state"], "synced", "{run}");
    assert!(std::fs::read_to_string(root.path().join("out.csv")).unwrap().contains(",5"));
    assert_eq!(a.ok(&["job", "run", &job])["import"]["unchanged"], 2);
    let log = a.ok(&["job", "log"]);
    assert_eq!(log["runs"].as_array().unwrap().len(), 2, "{log}");
}

#[test]
fn an_absent_or_growing_input_is_tried_again_and_then_told() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Boxes"]);
    let head = "dataset = \"boxes\"\nkey = [\"No\"]\nmode = \"replace\"\nretries = 2\nretry_after = \"1ms\"\nsettle = \"1ms\"\n";
    let job = write(root.path(), "gone.toml", &format!("input = \"share/boxes.csv\"\n{head}"));
    let sheet = write(root.path(), "boxes.csv", "No\n1\n");
    a.ok(&["import", &sheet, "--dataset", "boxes", "--key", "No", "--mode", "upsert"]);
    let (code, said) = a.json(&["job", "run", &job]);
    assert!(code == 1 && said["error"]["message"].as_str().unwrap().contains("tried 3 times"), "{said}");
    assert_eq!(a.ok(&["list"])["count"], 1, "nothing is deleted");
    assert_eq!(a.ok(&["job", "log", "gone"])["runs"][0]["state"], "failed");
    assert_eq!(a.json(&["job", "check", &job]).0, 7);
}

#[test]
fn a_job_that_was_due_while_nothing_ran_runs_once_at_the_next_start() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Boxes"]);
    write(root.path(), "boxes.csv", "No\n1\n");
    let job = write(
        root.path(),
        "boxes.toml",
        "input = \"boxes.csv\"\ndataset = \"boxes\"\nkey = [\"No\"]\nmode = \"upsert\"\nsettle = \"1ms\"\nschedule = \"every 1s\"\n",
    );
    assert!(a.json(&["job", "install", &write(root.path(), "no.toml", "input = \"x.csv\"\n")]).0 == 1, "a job without a schedule");
    a.ok(&["job", "install", &job]);
    // Many times of it pass while nothing runs; from then on it is due only in a hundred days.
    let due = |d: &Device| d.ok(&["job", "list"])["jobs"][0]["next"].as_str().map(str::to_owned);
    let next = due(&a).unwrap();
    assert!(eventually(|| cairn_node_now() > rfc3339_ms(&next) + 3_000));
    let text = std::fs::read_to_string(&job).unwrap().replace("every 1s", "every 100d");
    {
        // The file changes once the run that was missed has begun: only that one is there.
        let service = a.serve();
        assert!(eventually(|| {
            let runs = a.ok(&["job", "log"])["runs"].as_array().unwrap().len();
            if runs > 0 {
                std::fs::write(&job, &text).unwrap();
            }
            runs > 0
        }));
        let after = a.ok(&["job", "log"])["runs"].as_array().unwrap().len();
        assert!(after <= 2, "what was missed {after} times is done once, and once more if its second passed meanwhile");
        drop(service);
    }
    assert_eq!(a.ok(&["list"])["count"], 1);
    let job = write(root.path(), "d 50%.toml", "input = \"x\"\nschedule = \"daily 02:30\"\n");
    let line = a.ok(&["job", "install", &job, "--cron"])["cron"].as_str().unwrap().to_owned();
    let home = a.home().display().to_string();
    assert!(line.starts_with("30 2 * * * ") && line.contains(&home) && line.ends_with("d 50\\%.toml'"), "{line}");
    let out = a.command(&["job", "install", &job, "--systemd"]).output().unwrap();
    let units = String::from_utf8(out.stdout).unwrap();
    let start = units.lines().find(|l| l.starts_with("ExecStart=")).expect("a line of its own");
    assert!(start.contains(&home) && start.ends_with("d 50%%.toml\"") && units.contains("cairn-d-50-.timer"), "{units}");
}

fn cairn_node_now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn rfc3339_ms(text: &str) -> i64 {
    cairn_model::Instant::parse(text).unwrap().unix_ms()
}

#[test]
fn a_new_job_is_written_and_reads_back() {
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Boxes"]);
    let sheet = write(root.path(), "boxes.csv", "No,Common name\n1,tit\n");
    let job = root.path().join("boxes.toml");
    let job = job.to_str().unwrap();
    a.ok(&[
        "job",
        "new",
        job,
        "--input",
        &sheet,
        "--dataset",
        "boxes",
        "--key",
        "No",
        "--map",
        "Common name=species",
        "--schedule",
        "daily 02:30",
    ]);
    assert_eq!(a.ok(&["job", "run", job])["import"]["created"], 1);
    assert_eq!(a.ok(&["list"])["observations"][0]["fields"]["species"], "tit");
    assert_eq!(a.json(&["job", "new", job, "--input", &sheet]).0, 1, "a file that is there stays");
}

/// What the neighbour's own test files give there (github socrata/datasync, `IntegrationJob` and its tests), and here.
#[test]
fn the_neighbours_test_files_give_its_results() {
    let Some(data) = shared("data/import-modes/socrata-datasync") else { return };
    let root = folder();
    let a = Device::new(root.path(), "a");
    a.ok(&["new", "Sets"]);
    let run = |file: &str, mode: &str, more: &[&str]| {
        let file = data.join(format!("datasync_unit_test_{file}"));
        a.json(
            &[&["import", file.to_str().unwrap(), "--dataset", "set", "--key", "ID", "--mode", mode, "--date-format", "MM/dd/yyyy"], more]
                .concat(),
        )
    };
    let counts = |reply: &Value| {
        let d = &reply["data"];
        ["created", "updated", "unchanged", "deleted", "unknown", "rejected"].map(|k| d[k].as_u64().unwrap())
    };
    assert_eq!(counts(&run("two_rows.csv", "replace", &[]).1), [2, 0, 0, 0, 0, 0]);
    assert_eq!(counts(&run("three_rows.csv", "upsert", &[]).1), [1, 1, 1, 0, 0, 0]);
    assert_eq!(counts(&run("three_rows.tsv", "upsert", &[]).1), [0, 0, 3, 0, 0, 0]);
    assert_eq!(counts(&run("blank_rows.csv", "upsert", &[]).1), [0, 0, 3, 0, 0, 0]);
    assert_eq!(counts(&run("multiline_record.csv", "upsert", &["--skip", "2"]).1)[5], 0);
    let (code, bad) = run("three_rows_invalid_date.csv", "upsert", &[]);
    assert_eq!((code, counts(&bad)[5], &bad["data"]["rejects"][0]["line"]), (3, 1, &json!(4)));
    assert_eq!(counts(&run("delete_two_rows_with_header.csv", "delete", &[]).1), [0, 0, 0, 2, 2, 0], "unknown identifiers are no error");
    assert_eq!(counts(&run("three_rows.csv", "upsert", &[]).1)[0], 2);
    assert_eq!(
        counts(&run("delete_two_rows_no_header.csv", "delete", &[]).1),
        [0, 0, 0, 2, 0, 0],
        "a column of identifiers needs no header"
    );
    assert_eq!(run("zero_rows.csv", "replace", &[]).0, 1, "an empty file replaces nothing unless that is said");
    let names = ["--no-header", "--columns", "ID,Name,Another Name,Date"];
    assert_eq!(counts(&run("three_rows_no_header.csv", "upsert", &names).1)[5], 0);
    let (code, multi) = run("four_rows_multidate.csv", "upsert", &["--date-format", "MM/dd/yy", "--date-format", "iso"]);
    assert_eq!((code, counts(&multi)[5]), (0, 0), "{multi}");
}

/// A service that takes rows as its published description says.
struct Soda {
    address: String,
    rows: Arc<Mutex<BTreeMap<String, Value>>>,
    seen: Arc<Mutex<Vec<String>>>,
    /// Answers of trouble to give before the next honest one.
    trouble: Arc<Mutex<Vec<u16>>>,
}

impl Soda {
    fn start(key: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let soda = Self { address, rows: Arc::default(), seen: Arc::default(), trouble: Arc::default() };
        let (rows, seen, trouble) = (soda.rows.clone(), soda.seen.clone(), soda.trouble.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rows, seen, trouble) = (rows.clone(), seen.clone(), trouble.clone());
                std::thread::spawn(move || answer(stream, key, &rows, &seen, &trouble));
            }
        });
        soda
    }
}

fn answer(stream: TcpStream, key: &str, rows: &Mutex<BTreeMap<String, Value>>, seen: &Mutex<Vec<String>>, trouble: &Mutex<Vec<u16>>) {
    let mut reader = BufReader::new(&stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let length = head.iter().find_map(|l| l.to_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse::<usize>().unwrap()));
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        seen.lock().unwrap().push(head.join("\n"));
        let (status, reply) = match trouble.lock().unwrap().pop() {
            Some(status) => (status, json!({"error": true, "message": "not now"})),
            None => take(&head, &body, key, rows),
        };
        let text = reply.to_string();
        write!(&stream, "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", text.len()).unwrap();
    }
}

fn take(head: &[String], body: &[u8], key: &str, rows: &Mutex<BTreeMap<String, Value>>) -> (u16, Value) {
    let lower = |l: &String| l.to_lowercase();
    // ana:secret
    if !head.iter().any(|l| {
        lower(l).starts_with("authorization: basic yw5homnly3jlda==")
            || l.to_lowercase().starts_with("authorization: basic yw5hOnnly3jldA==".to_lowercase().as_str())
    }) {
        return (403, json!({"error": true, "message": "You must be logged in"}));
    }
    if !head[0].contains("/resource/abcd-1234.json") {
        return (404, json!({"error": true, "message": "Not found"}));
    }
    let sent: Vec<Value> = serde_json::from_slice(body).unwrap();
    if let Some(bad) = sent.iter().find(|r| r["eggs"].as_str().is_some_and(|e| e.parse::<f64>().is_err())) {
        return (400, json!({"error": true, "message": format!("Unable to parse number: {}", bad["eggs"])}));
    }
    let mut rows = rows.lock().unwrap();
    if head[0].starts_with("PUT") {
        rows.clear();
    }
    let (mut created, mut updated, mut deleted) = (0, 0, 0);
    for row in sent {
        let id = row[key].as_str().unwrap_or_default().to_owned();
        if row[":deleted"] == true {
            deleted += u64::from(rows.remove(&id).is_some());
        } else if rows.insert(id, row).is_some() {
            updated += 1;
        } else {
            created += 1;
        }
    }
    (
        200,
        json!({"By RowIdentifier": created + updated, "Rows Updated": updated, "Rows Deleted": deleted, "Rows Created": created, "Errors": 0, "By SID": 0}),
    )
}

#[test]
fn rows_are_published_to_a_soda_endpoint_and_secrets_stay_secret() {
    let root = folder();
    let soda = Soda::start("no");
    let a = Device::new(root.path(), "a").env("SODA_PASSWORD", "secret");
    a.ok(&["new", "Boxes"]);
    let sheet: String = (1..=25).map(|n| format!("{n},{}\n", if n == 7 { "many".to_owned() } else { n.to_string() })).collect();
    write(root.path(), "boxes.csv", &format!("No,eggs\n{sheet}"));
    let job = |name: &str, method: &str, input: &str| {
        write(
            root.path(),
            name,
            &format!(
                "{input}[[then]]\nsoda = {{ domain = \"{}\", id = \"abcd-1234\", method = \"{method}\", user = \"ana\", password = \"env:SODA_PASSWORD\", key = \"no\", dataset = \"boxes\", batch = 10 }}\n",
                soda.address
            ),
        )
    };
    let input = "input = \"boxes.csv\"\ndataset = \"boxes\"\nkey = [\"No\"]\nmode = \"upsert\"\nsettle = \"1ms\"\n";
    let upsert = job("up.toml", "upsert", input);
    // Too many requests, then an hour of a broken server: tried again.
    *soda.trouble.lock().unwrap() = vec![503, 500, 429];
    let (code, run) = a.json(&["job", "run", &upsert]);
    let step = &run["data"]["steps"][0]["data"];
    assert_eq!((code, &step["created"], &step["rejected"]), (3, &json!(24), &json!(1)), "{run}");
    assert!(step["rejects"][0]["reason"].as_str().unwrap().contains("many"), "the row at fault is told: {run}");
    assert_eq!(soda.rows.lock().unwrap()["12"]["eggs"], "12");

    let ids = a.ok(&["list", "--in", "boxes", "--limit", "0", "--where", "No=12"])["observations"][0]["id"].as_str().unwrap().to_owned();
    a.ok(&["rm", &ids]);
    let delete = job("del.toml", "delete", "");
    let gone = a.ok(&["job", "run", &delete]);
    assert_eq!(gone["steps"][0]["data"]["deleted"], 1, "{gone}");
    let seventh = a.ok(&["list", "--in", "boxes", "--where", "No=7"])["observations"][0]["id"].as_str().unwrap().to_owned();
    a.ok(&["edit", &seventh, "eggs=7"]);
    let all = a.ok(&["job", "run", &job("all.toml", "replace", "")]);
    assert_eq!((&all["steps"][0]["data"]["created"], soda.rows.lock().unwrap().len()), (&json!(24), 24), "{all}");

    // Broken off after the second batch, it goes on there.
    let resume = job("resume.toml", "upsert", "");
    *soda.trouble.lock().unwrap() = Vec::new();
    soda.seen.lock().unwrap().clear();
    {
        let trouble = soda.trouble.clone();
        let seen = soda.seen.clone();
        std::thread::spawn(move || {
            while seen.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            *trouble.lock().unwrap() = vec![401; 1];
        });
    }
    let first = a.json(&["job", "run", &resume]).1;
    let second = a.ok(&["job", "run", &resume]);
    let resumed = second["steps"][0]["data"]["resumed_at"].as_u64().unwrap();
    let broke = first["data"]["steps"][0].get("problem").is_some();
    assert_eq!(resumed > 0, broke, "{first} {second}");

    let log = a.ok(&["job", "log", "--limit", "0"]).to_string() + &first.to_string();
    assert!(!log.contains("secret"), "{log}");
    let plain = write(
        root.path(),
        "plain.toml",
        "[[then]]\nsoda = { domain = \"x.example\", id = \"abcd-1234\", method = \"upsert\", user = \"ana\", password = \"secret\" }\n",
    );
    let said = a.json(&["job", "run", &plain]).1.to_string();
    assert!(said.contains("does not belong") && !said.contains("\"secret\""), "{said}");
}

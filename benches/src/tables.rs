//! Tables: fresh rows, the same rows again, a hundredth of them changed, and rows out.

use crate::{figure, timed};
use cairn_tests::{Device, write_rows};
use serde_json::{Value, json};
use std::path::Path;

/// The rows of `write_rows` with an identifier before them; every `changed`-th (if not 0) says something else.
fn keyed(from: &Path, to: &Path, changed: usize) {
    use std::io::{BufRead, Write};
    let mut out = std::io::BufWriter::new(std::fs::File::create(to).expect("a file"));
    for (n, line) in std::io::BufReader::new(std::fs::File::open(from).expect("a file")).lines().enumerate() {
        let line = line.expect("text");
        match n {
            0 => writeln!(out, "No,{line}"),
            n if changed > 0 && n % changed == 0 => writeln!(out, "{n:06},{line} changed"),
            n => writeln!(out, "{n:06},{line}"),
        }
        .expect("written");
    }
}

/// Figures for `count` rows.
pub fn figures(root: &Path, count: usize) -> Value {
    let device = Device::new(root, "tables");
    device.ok(&["new", "Tables"]);
    let (plain, same, other) = (root.join("plain.csv"), root.join("same.csv"), root.join("other.csv"));
    write_rows(&plain, 0, count);
    keyed(&plain, &same, 0);
    keyed(&plain, &other, 100);
    let import = |file: &Path, mode: &str| {
        timed(&device, &["import", file.to_str().expect("UTF-8"), "--dataset", "bench", "--key", "No", "--mode", mode])
    };
    let rate = |seconds: f64| count as f64 / seconds;
    let (fresh, fresh_mb) = import(&same, "upsert");
    let (again, again_mb) = import(&same, "upsert");
    let (replaced, _) = import(&same, "replace");
    let (changed, _) = import(&other, "upsert");
    let mut out = json!({
        "rows": count,
        "fresh": figure(rate(fresh), "rows/s", 20_000.0), "fresh_peak_mb": fresh_mb,
        "unchanged": figure(rate(again), "rows/s", 100_000.0), "unchanged_peak_mb": again_mb,
        "replace_unchanged": figure(rate(replaced), "rows/s", 100_000.0),
        "one_percent_changed": figure(rate(changed), "rows/s", 50_000.0),
    });
    for (ending, target) in [
        ("csv", 200_000.0),
        ("geojson", 200_000.0),
        ("gpx", 100_000.0),
        ("kml", 100_000.0),
        ("gpkg", 50_000.0),
        ("dwca.zip", 50_000.0),
        ("xlsx", 20_000.0),
        ("shp.zip", 20_000.0),
    ] {
        let file = root.join(format!("out.{ending}"));
        let (seconds, mb) = timed(&device, &["export", file.to_str().expect("UTF-8")]);
        out[format!("export_{ending}")] = figure(rate(seconds), "rows/s", target);
        out[format!("export_{ending}_peak_mb")] = json!(mb);
    }
    out
}

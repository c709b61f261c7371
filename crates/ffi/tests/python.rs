//! The example in Python runs against the library as it was built.

use std::path::{Path, PathBuf};
use std::process::Command;

fn library() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let name = format!("{}cairn_ffi{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    own.parent().expect("deps").join(name)
}

#[test]
fn an_app_adds_lists_and_syncs() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: python3 is not here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let library = library();
    uniffi::generate(uniffi::GenerateOptions {
        languages: vec![uniffi::TargetLanguage::Python],
        source: library.to_str().expect("UTF-8").into(),
        out_dir: folder.path().to_str().expect("UTF-8").into(),
        ..Default::default()
    })
    .expect("bindings");
    std::fs::copy(&library, folder.path().join(library.file_name().expect("a name"))).expect("beside the bindings");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/river_watch.py");
    let done = Command::new("python3").arg(example).env("PYTHONPATH", folder.path()).output().expect("python3");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}");
    assert!(said.contains("both hold 2 observations"), "{said}");
}

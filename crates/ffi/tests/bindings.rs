//! What other languages are given: the example in Python runs against the library as it was built.

use std::path::{Path, PathBuf};
use std::process::Command;

fn library() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let name = format!("{}cairn_ffi{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    own.parent().expect("deps").join(name)
}

fn bindings(languages: Vec<uniffi::TargetLanguage>, folder: &Path) {
    let options = uniffi::GenerateOptions {
        languages,
        source: library().to_str().expect("UTF-8").into(),
        out_dir: folder.to_str().expect("UTF-8").into(),
        ..Default::default()
    };
    uniffi::generate(options).expect("bindings");
}

/// No compiler of theirs is here: that the calls are in what phones are given.
#[test]
fn phones_have_their_bindings() {
    let folder = tempfile::tempdir().expect("a folder");
    bindings(vec![uniffi::TargetLanguage::Kotlin, uniffi::TargetLanguage::Swift], folder.path());
    let read = |path: &str| std::fs::read_to_string(folder.path().join(path)).expect(path);
    let kotlin = read("uniffi/cairn_ffi/cairn_ffi.kt");
    assert!(kotlin.contains("class Device") && kotlin.contains("fun `sync`("));
    let swift = read("cairn_ffi.swift");
    assert!(swift.contains("class Device") && swift.contains("func sync("));
}

#[test]
fn an_app_adds_lists_and_syncs() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: python3 is not here");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let library = library();
    bindings(vec![uniffi::TargetLanguage::Python], folder.path());
    std::fs::copy(&library, folder.path().join(library.file_name().expect("a name"))).expect("beside the bindings");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/river_watch.py");
    let done = Command::new("python3").arg(example).env("PYTHONPATH", folder.path()).output().expect("python3");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}");
    assert!(said.contains("both hold 2 observations"), "{said}");
}

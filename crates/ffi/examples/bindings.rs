//! Writes what an app needs to call the library, for one language:
//! `cargo run -p cairn-ffi --features bindings --example bindings -- LIBRARY kotlin|swift|python|ruby FOLDER`, where LIBRARY is what
//! `cargo build --release -p cairn-ffi` made, also when it was made for a phone.

use std::process::ExitCode;
use uniffi::TargetLanguage;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [library, language, folder] = words.as_slice() else {
        eprintln!("give three words: LIBRARY kotlin|swift|python|ruby FOLDER");
        return ExitCode::from(2);
    };
    let language = match language.as_str() {
        "kotlin" => TargetLanguage::Kotlin,
        "swift" => TargetLanguage::Swift,
        "python" => TargetLanguage::Python,
        "ruby" => TargetLanguage::Ruby,
        other => {
            eprintln!("error: there is no `{other}`: kotlin, swift, python or ruby");
            return ExitCode::from(2);
        }
    };
    let options = uniffi::GenerateOptions {
        languages: vec![language],
        source: library.as_str().into(),
        out_dir: folder.as_str().into(),
        ..Default::default()
    };
    match uniffi::generate(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

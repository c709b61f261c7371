//! The door for phone apps and other languages: the runtime of a device, by UniFFI (Kotlin, Swift, Python, Ruby).
//!
//! Everything that the command line does goes through [`Device::ask`], which takes a request of the one vocabulary as JSON (the field
//! `verb` names it, as `cairn events` and the local socket know it) and gives its answer as JSON. What an app does all the time has
//! functions with types of its own. Calls block: an app makes them on a thread beside its surface.

mod device;
mod error;
mod service;
mod shapes;

pub use device::Device;
pub use error::CairnError;
pub use service::Service;
pub use shapes::{Answer, NewObservation, Progress, Seen};

uniffi::setup_scaffolding!();

/// Version of the program.
#[uniffi::export]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

//! The platform's key store (Secret Service over D-Bus): keeps the device's seed out of files where there is one that is open.
//! Never a prompt: a locked one is as none. Blocking, on a thread of its own: callers may be inside a runtime.

use cairn_model::hex;
use secret_service::blocking::SecretService;
use secret_service::{EncryptionType, Error};
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Duration;

/// A session bus that answers slower is as none.
const ANSWER: Duration = Duration::from_secs(5);
const LABEL: &str = "Cairn device key";
const KIND: &str = "application/octet-stream";

/// Why a seed cannot be had from the key store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSeed {
    /// No service, or it is locked.
    Closed,
    /// The service is there and does not have it.
    Gone,
}

/// The bus is this user's own, and whoever is on it may ask for the secret anyway: nothing is gained by encrypting the way.
/// `work` with the service's default collection, if it is there and open.
fn with_open<T: Send + 'static>(work: impl FnOnce(&SecretService<'_>) -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || {
        let done = SecretService::connect(EncryptionType::Plain).and_then(|service| {
            service.get_default_collection()?.ensure_unlocked()?;
            work(&service)
        });
        // Nobody waits any more: it came too late.
        tx.send(done).ok();
    });
    rx.recv_timeout(ANSWER).unwrap_or(Err(Error::Unavailable))
}

fn attributes(name: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", "cairn"), ("key", name)])
}

/// Keeps a seed under `name`, and reads it back before it says so. `false` if there is no open key store.
pub(crate) fn keep(name: &[u8; 16], seed: &[u8; 32]) -> bool {
    let (name, seed) = (hex(name), *seed);
    let kept = with_open(move |service| {
        let collection = service.get_default_collection()?;
        collection.create_item(LABEL, attributes(&name), &seed, true, KIND)?;
        let found = collection.search_items(attributes(&name))?;
        let item = found.first().ok_or(Error::NoResult)?;
        Ok(item.get_secret()? == seed)
    });
    kept.unwrap_or(false)
}

/// Keeps a text (a password of a job) under `name`. `false` if there is no open key store.
pub(crate) fn keep_text(name: &str, text: &str) -> bool {
    let (name, text) = (name.to_owned(), text.to_owned());
    let kept = with_open(move |service| {
        let attributes = HashMap::from([("application", "cairn"), ("secret", name.as_str())]);
        service.get_default_collection()?.create_item("Cairn: secret of a job", attributes, text.as_bytes(), true, "text/plain")?;
        Ok(true)
    });
    kept.unwrap_or(false)
}

/// The text kept under `name`.
pub(crate) fn find_text(name: &str) -> Option<String> {
    let name = name.to_owned();
    let found = with_open(move |service| {
        let attributes = HashMap::from([("application", "cairn"), ("secret", name.as_str())]);
        let collection = service.get_default_collection()?;
        let items = collection.search_items(attributes)?;
        let item = items.first().ok_or(Error::NoResult)?;
        item.ensure_unlocked()?;
        item.get_secret()
    });
    String::from_utf8(found.ok()?).ok()
}

/// The seed kept under `name`.
pub(crate) fn find(name: &str) -> Result<[u8; 32], NoSeed> {
    let name = name.to_owned();
    let found = with_open(move |service| {
        let collection = service.get_default_collection()?;
        let items = collection.search_items(attributes(&name))?;
        let item = items.first().ok_or(Error::NoResult)?;
        item.ensure_unlocked()?;
        item.get_secret()
    });
    match found {
        Ok(secret) => secret.try_into().map_err(|_| NoSeed::Gone),
        Err(Error::NoResult) => Err(NoSeed::Gone),
        Err(_) => Err(NoSeed::Closed),
    }
}

/// Forgets the seed kept under `name`; what cannot be forgotten stays in the owner's key store.
pub(crate) fn forget(name: &str) {
    let name = name.to_owned();
    with_open(move |service| {
        for item in service.get_default_collection()?.search_items(attributes(&name))? {
            item.ensure_unlocked()?;
            item.delete()?;
        }
        Ok(())
    })
    .ok();
}

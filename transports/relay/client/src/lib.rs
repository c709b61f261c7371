//! The relay's client: a project's log as a [`cairn_contract::Mailbox`], accounts, and waiting for news. It knows seeds and sealed
//! bytes; what they mean is the caller's business. Calls block, on a runtime that is handed in; the environment is not read.

mod account;
mod chain;
mod error;
mod http;
mod mailbox;
mod news;
mod session;
mod tls;
mod upload;
mod url;

pub use account::Relay;
pub use cairn_relay_wire as wire;
pub use chain::{Alarm, Remembered};
pub use error::RelayError;
pub use http::{Network, Patience, web_client};
pub use mailbox::RelayMailbox;
pub use news::News;
pub use session::{Entered, KeyRing};
pub use url::{RelayUrl, UrlError};

use wire::{Hex, Keys, Sealed, public_key};

impl RelayMailbox {
    /// Makes the log with the newest of our keys. `admin` is the seed of the admin key, `record` its secret boxed to coordinators.
    pub fn create(&mut self, admin: &[u8; 32], record: Vec<u8>, account: Option<&str>) -> Result<bool, RelayError> {
        let runtime = tokio::runtime::Handle::clone(self.handle());
        runtime.block_on(self.door.create(admin, record, account))
    }

    /// The log's keys and the sealed record of its admin secret.
    pub fn keys(&mut self) -> Result<Keys, RelayError> {
        let runtime = tokio::runtime::Handle::clone(self.handle());
        runtime.block_on(self.door.read_keys())
    }

    /// Lets the newest of our keys count from now on, and `next` as admin key, by the admin key there was.
    pub fn rotate(&mut self, version: u32, admin: &[u8; 32], next: &[u8; 32], record: Vec<u8>) -> Result<(), RelayError> {
        let runtime = tokio::runtime::Handle::clone(self.handle());
        let access = self.door.keys.access.first().map_or(Hex([0; 32]), public_key);
        let keys = Keys { version, access, admin: public_key(next), record: Sealed(record) };
        runtime.block_on(self.door.rotate(admin, &keys))
    }

    /// Other keys to try, after more were learnt.
    pub fn with_keys(&mut self, keys: KeyRing) {
        if self.door.keys != keys {
            self.door.keys = keys;
            self.door.entered = None;
        }
    }
}

//! A seeded world of devices, links and disks, and the invariants of ARCHITECTURE.md as code. For tests only.
//!
//! # Fault model
//!
//! - **Links** are ordered byte streams with delay. They may be cut at any byte, in each direction apart; what was
//!   on the way is lost. Whole bytes are never changed (TLS sees to that; forged chunks have tests of their own).
//! - **Devices** crash at any step and restart with what their disk had synced; edits acknowledged before must be there.
//! - **Disks** lose everything written since the last sync, refuse writes for a while, and are copied: a clone keeps
//!   device key and feed, as a restored backup does when nothing notices it.
//! - **A member cheats** ([`Eve`]): it has a ticket and writes lists that are not true, boxes that do not open, junk and floods.
//! - **Clocks** are any number: every device's is off by up to fifty years.

mod disk;
mod eve;
mod model;
mod world;

pub use disk::{Disk, DiskHandle};
pub use eve::{Eve, Forged};
pub use model::Expected;
pub use world::{Config, Failure, Outcome, run};

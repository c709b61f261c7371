//! Links over QUIC on the local network, and how devices find each other there.
//!
//! TLS 1.3 only, both ends with a self-made certificate of which nothing but the Ed25519 key is read: that key is the
//! device. Dates are not read, so wrong clocks do not matter. No tickets and no 0-RTT, so that every connection is
//! authenticated anew.

mod discovery;
mod endpoint;
mod link;
mod probe;
mod tls;

pub use discovery::{Discovery, DiscoveryEnded, DiscoveryError, Found};
pub use endpoint::{Endpoint, EndpointError};
pub use link::QuicLink;
pub use probe::multicast_passes;
pub use tls::{Answer, Door, Knock};

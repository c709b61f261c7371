//! Finding devices of the same project on the local network by multicast DNS. Only hints: rights come from keys.
//!
//! An announcement shows a random name, a nonce and a tag that only holders of the project's discovery key can
//! recognise; it names neither project nor device.

use cairn_model::{hex, unhex};
use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const SERVICE: &str = "_cairn._udp.local.";
/// Devices kept at once: a flood of announcements must not fill memory.
const CANDIDATES: usize = 256;

/// Bytes of tags in one announcement: a TXT string holds 255 characters.
const TAGS_BYTES: usize = 120;

/// Why nothing can be announced or browsed.
#[derive(Debug, thiserror::Error)]
#[error("discovery on the local network does not work: {0}")]
pub struct DiscoveryError(#[from] mdns_sd::Error);

/// Nothing is heard any more.
#[derive(Debug, thiserror::Error)]
#[error("discovery on the local network has ended")]
pub struct DiscoveryEnded;

/// One device that announced itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Random name of this announcement.
    pub name: String,
    /// Nonce of its tag.
    pub nonce: Vec<u8>,
    /// Tags, one after another; compare with those that keys give.
    pub tags: Vec<u8>,
    /// Where it listens, IPv4 before IPv6.
    pub addresses: Vec<SocketAddr>,
}

/// Announces and browses; both end when it is dropped.
pub struct Discovery {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<ServiceEvent>,
    own: Option<String>,
    found: BTreeMap<String, Found>,
}

impl Discovery {
    /// Browses on the interfaces of `listen`: all but loopback for an unspecified address, else just that one.
    pub fn start(listen: IpAddr) -> Result<Self, DiscoveryError> {
        let daemon = ServiceDaemon::new()?;
        if listen.is_unspecified() {
            daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        } else {
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(IfKind::Addr(listen))?;
        }
        let events = daemon.browse(SERVICE)?;
        Ok(Self { daemon, events, own: None, found: BTreeMap::new() })
    }

    /// Announces `port` under a random name with tags and their nonce; an earlier announcement ends.
    pub fn announce(&mut self, port: u16, name: &[u8; 8], nonce: &[u8; 8], tags: &[u8]) -> Result<(), DiscoveryError> {
        if let Some(before) = self.own.take() {
            self.daemon.unregister(&before)?;
        }
        let name = hex(name);
        let text = [("n", hex(nonce)), ("t", hex(&tags[..tags.len().min(TAGS_BYTES)]))];
        let info = ServiceInfo::new(SERVICE, &name, &format!("{name}.local."), "", port, &text[..])?.enable_addr_auto();
        self.own = Some(info.get_fullname().to_owned());
        self.daemon.register(info)?;
        Ok(())
    }

    /// Waits up to `most`; says whether anybody came, went or was heard again, and gives everyone known now.
    ///
    /// # Errors
    /// Nothing is heard any more: the daemon ended, or gave up on a reader that was too slow. Another must be started.
    pub async fn next(&mut self, most: Duration) -> Result<(bool, Vec<Found>), DiscoveryEnded> {
        let mut news = false;
        if let Ok(event) = tokio::time::timeout(most, self.events.recv_async()).await {
            news |= self.take(event.map_err(|_| DiscoveryEnded)?);
            while let Ok(event) = self.events.try_recv() {
                news |= self.take(event);
            }
        }
        Ok((news, self.found.values().cloned().collect()))
    }

    fn take(&mut self, event: ServiceEvent) -> bool {
        match event {
            ServiceEvent::ServiceRemoved(_, name) => self.found.remove(&name).is_some(),
            ServiceEvent::ServiceResolved(info) => {
                let name = info.get_fullname().to_owned();
                let text = |key| info.get_property_val_str(key).and_then(|v| unhex(v).ok()).unwrap_or_default();
                let port = info.get_port();
                let known = self.found.len() >= CANDIDATES && !self.found.contains_key(&name);
                if known || Some(&name) == self.own.as_ref() {
                    return false;
                }
                let mut addresses: Vec<SocketAddr> = info.get_addresses().iter().map(|ip| socket(ip, port)).collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                self.found.insert(name.clone(), Found { name, nonce: text("n"), tags: text("t"), addresses });
                true
            }
            _ => false,
        }
    }
}

/// Link-local IPv6 addresses keep their scope: without it they cannot be dialled.
fn socket(ip: &mdns_sd::ScopedIp, port: u16) -> SocketAddr {
    match ip {
        mdns_sd::ScopedIp::V6(v6) => {
            let scope = if v6.addr().is_unicast_link_local() { v6.scope_id().index } else { 0 };
            SocketAddr::V6(std::net::SocketAddrV6::new(*v6.addr(), port, 0, scope))
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // A goodbye that cannot be sent is replaced by the record's end of life.
        self.daemon.shutdown().ok();
    }
}

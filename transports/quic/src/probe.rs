//! Whether multicast passes an interface, seen from this host: a question to the group of mDNS, on its own port, must come back to a socket
//! that joined the group there. What a network does with it further on only another device can tell.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// A packet that does not leave the host and come back in this time does not come.
const WAIT: Duration = Duration::from_millis(500);

/// A question that nobody answers: for a service of a random name (RFC 6762, 5.1).
fn question(nonce: &[u8; 8]) -> Vec<u8> {
    let name: String = nonce.iter().map(|b| format!("{b:02x}")).collect();
    let mut out = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [&format!("_{}", &name[..12]), "_udp", "local"] {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    // The root, PTR, IN.
    out.extend([0, 0, 12, 0, 1]);
    out
}

/// Asks the group by the interface with this address, and says whether the question came back.
///
/// # Errors
/// The interface takes no multicast at all: it cannot be joined or sent by.
pub fn multicast_passes(interface: Ipv4Addr, nonce: &[u8; 8]) -> io::Result<bool> {
    let socket = || Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP));
    let hears = socket()?;
    // Others on this machine listen there as well.
    hears.set_reuse_address(true)?;
    #[cfg(unix)]
    hears.set_reuse_port(true)?;
    hears.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    let hears = UdpSocket::from(hears);
    hears.join_multicast_v4(&GROUP, &interface)?;
    let sends = socket()?;
    sends.set_multicast_if_v4(&interface)?;
    sends.set_multicast_loop_v4(true)?;
    // It stays on this network.
    sends.set_multicast_ttl_v4(1)?;
    sends.bind(&SocketAddr::from((interface, 0)).into())?;
    let question = question(nonce);
    sends.send_to(&question, &SocketAddr::from((GROUP, PORT)).into())?;
    let (until, mut heard) = (Instant::now() + WAIT, [0; 1500]);
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        hears.set_read_timeout(Some(left))?;
        match hears.recv_from(&mut heard) {
            Ok((len, _)) if heard[..len] == question[..] => return Ok(true),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

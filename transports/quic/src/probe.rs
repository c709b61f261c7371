//! Whether multicast passes an interface, seen from this host: a packet to the group of mDNS, on a port nobody else listens to, must come
//! back to a socket that joined the group there. What a network does with it further on only another device can tell.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// A packet that does not leave the host and come back in this time does not come.
const WAIT: Duration = Duration::from_millis(500);

/// Sends `nonce` to the group by the interface with this address, and says whether it came back.
///
/// # Errors
/// The interface takes no multicast at all: it cannot be joined or sent by.
pub fn multicast_passes(interface: Ipv4Addr, nonce: &[u8; 16]) -> io::Result<bool> {
    let hears = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    hears.join_multicast_v4(&GROUP, &interface)?;
    hears.set_read_timeout(Some(WAIT))?;
    let port = hears.local_addr()?.port();
    let sends = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    sends.set_multicast_if_v4(&interface)?;
    sends.set_multicast_loop_v4(true)?;
    // It stays on this network.
    sends.set_multicast_ttl_v4(1)?;
    sends.bind(&SocketAddr::from((interface, 0)).into())?;
    sends.send_to(nonce, &SocketAddr::from((GROUP, port)).into())?;
    let mut heard = [0; 16];
    // Others may send to the group as well: a few packets are looked at.
    for _ in 0..8 {
        match hears.recv_from(&mut heard) {
            Ok((16, _)) if heard == *nonce => return Ok(true),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

//! The local network: interfaces, multicast, the port, who is found, and who should be and is not.

use super::Looks;
use crate::network::{addresses_near, answers};
use crate::request::SyncRequest;
use crate::{Node, NodeError, now_ms};
use cairn_quic::multicast_passes;
use cairn_store::{Entropy, OsEntropy};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long others are looked for.
const LOOK: Duration = Duration::from_secs(3);
/// Somebody heard of this lately by another way is expected on the network they share with this device.
const LATELY_MS: i64 = 3600 * 1000;

/// Beginnings of names that tunnels have.
const TUNNELS: [&str; 8] = ["tun", "tap", "wg", "ppp", "utun", "tailscale", "zt", "nordlynx"];

struct Interface {
    name: String,
    ip: IpAddr,
    mask: Option<Ipv4Addr>,
}

impl Interface {
    fn has(&self, other: IpAddr) -> bool {
        let (IpAddr::V4(own), IpAddr::V4(other), Some(mask)) = (self.ip, other, self.mask) else { return false };
        u32::from(own) & u32::from(mask) == u32::from(other) & u32::from(mask)
    }

    fn is_tunnel(&self) -> bool {
        TUNNELS.iter().any(|t| self.name.starts_with(t))
    }
}

fn interfaces() -> Vec<Interface> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let own = |i: if_addrs::Interface| {
        let mask = if let if_addrs::IfAddr::V4(v4) = &i.addr { Some(v4.netmask) } else { None };
        Interface { ip: i.ip(), mask, name: i.name }
    };
    let up = |i: &if_addrs::Interface| i.is_oper_up() && !i.is_loopback() && !i.is_link_local();
    all.into_iter().filter(up).map(own).collect()
}

pub(super) async fn look(node: &Arc<Node>, looks: &mut Looks) -> Result<(), NodeError> {
    let all = interfaces();
    if all.is_empty() {
        looks.finding(
            "network",
            "this device is on no network",
            "join the others' Wi-Fi, or open a hotspot on a phone; without any, use a file or a folder: `cairn sync FILE.cairn`",
        );
        return Ok(());
    }
    let names: Vec<String> = all.iter().map(|i| format!("{} {}", i.name, i.ip)).collect();
    looks.fine("network", names.join(", "));
    for tunnel in all.iter().filter(|i| i.is_tunnel()) {
        let what = format!("{} looks like a VPN: it may lead traffic past the local network", tunnel.name);
        looks.note("vpn", what, "if devices near are not found, turn it off and look again");
    }
    multicast(&all, looks);
    port(node, &all, looks).await;
    firewall(node, looks);
    near(node, &all, looks).await
}

fn multicast(all: &[Interface], looks: &mut Looks) {
    for interface in all.iter().filter(|i| !i.is_tunnel()) {
        let IpAddr::V4(ip) = interface.ip else { continue };
        let nonce: [u8; 8] = (&mut OsEntropy as &mut dyn Entropy).bytes();
        let why = match multicast_passes(ip, &nonce) {
            Ok(true) => {
                looks.fine("multicast", format!("passes {}", interface.name));
                continue;
            }
            Ok(false) => "what was sent did not come back".to_owned(),
            Err(e) => e.to_string(),
        };
        looks.finding(
            "multicast",
            format!("{}: {why}; devices near cannot find each other there", interface.name),
            "allow UDP port 5353 in the firewall, or name the other device's address: `cairn sync HOST:PORT`",
        );
    }
}

/// The service must answer under every address that others may dial.
async fn port(node: &Arc<Node>, all: &[Interface], looks: &mut Looks) {
    let Some(listening) = node.listening() else {
        looks.note("port", "no service runs: others cannot reach this device, it can only reach them", "`cairn serve` stays on for others");
        return;
    };
    let port = listening.port();
    for ip in all.iter().map(|i| i.ip).filter(|ip| ip.is_ipv4() && (listening.ip().is_unspecified() || listening.ip() == *ip)) {
        let address = SocketAddr::new(ip, port);
        match answers(node, address).await {
            // From this machine: what a firewall does with others' packets it cannot see.
            true => looks.fine("port", format!("the service answers at {address}, asked from here")),
            false => looks.finding(
                "port",
                format!("the service does not answer at {address}"),
                format!("allow UDP port {port} in the firewall; start `cairn serve` again"),
            ),
        }
    }
    if listening.ip().is_loopback() {
        looks.finding(
            "port",
            format!("the service listens at {listening}: only this machine reaches it"),
            "`cairn serve --listen 0.0.0.0:4711`",
        );
    }
}

fn firewall(node: &Node, looks: &mut Looks) {
    let port = node.port();
    let ufw = std::fs::read_to_string("/etc/ufw/ufw.conf").unwrap_or_default();
    let ports = if port == 0 { "5353".to_owned() } else { format!("5353 and {port}") };
    if ufw.lines().any(|l| l.trim().eq_ignore_ascii_case("enabled=yes")) {
        let and = if port == 0 { String::new() } else { format!(" && sudo ufw allow {port}/udp") };
        looks.note("firewall", format!("ufw is on: it must let UDP {ports} in"), format!("sudo ufw allow 5353/udp{and}"));
    }
    if std::path::Path::new("/run/firewalld").exists() {
        looks.note(
            "firewall",
            format!("firewalld is on: it must let UDP {ports} in"),
            "sudo firewall-cmd --add-service=mdns, and the port",
        );
    }
}

async fn near(node: &Arc<Node>, all: &[Interface], looks: &mut Looks) -> Result<(), NodeError> {
    // This device's own service announces itself, too.
    let own = |a: &SocketAddr| a.port() == node.port() && all.iter().any(|i| i.ip == a.ip());
    let found: Vec<Vec<SocketAddr>> = addresses_near(node, LOOK).await.into_iter().filter(|a| !a.iter().any(own)).collect();
    let mut reached = Vec::new();
    for addresses in &found {
        let mut ok = false;
        for address in addresses {
            ok |= answers(node, *address).await;
        }
        let shown = addresses.first().map(ToString::to_string).unwrap_or_default();
        match ok {
            true => reached.extend(addresses.iter().map(SocketAddr::ip)),
            false => looks.finding(
                "devices near",
                format!("a device of this project announces itself at {shown} and does not answer"),
                "a firewall there, or a network that lets multicast through and nothing else: try a phone's hotspot",
            ),
        }
    }
    match (found.len(), reached.is_empty()) {
        (0, _) => looks.note(
            "devices near",
            "no device of this project announces itself on this network",
            "is `cairn serve` running there, on the same network? a guest network often keeps devices apart",
        ),
        (_, false) => looks.fine("devices near", format!("{} found and reached", found.len())),
        _ => {}
    }
    isolated(node, all, &reached, looks).await
}

/// A device that was heard by a relay a moment ago, has an address on a network of this device, and cannot be reached there.
async fn isolated(node: &Arc<Node>, all: &[Interface], reached: &[IpAddr], looks: &mut Looks) -> Result<(), NodeError> {
    let (met, now) = (node.store().met()?, now_ms());
    for (device, known) in met.iter().filter(|(_, k)| k.transport == "relay" && (0..LATELY_MS).contains(&(now - k.met_ms))) {
        let here: Vec<SocketAddr> =
            known.addresses.iter().filter_map(|a| a.parse().ok()).filter(|a: &SocketAddr| all.iter().any(|i| i.has(a.ip()))).collect();
        let Some(address) = here.first().filter(|a| !reached.contains(&a.ip())) else { continue };
        if !answers(node, *address).await {
            let name = node.store().device_name(device);
            // Two networks may use the same addresses: it is a hint.
            looks.note(
                "client isolation",
                format!("{name} was heard by the relay lately, and does not answer at {address}, which looks like this network"),
                "if it is here: the access point may keep its clients apart (guest networks do). Turn that off, or use a phone's hotspot",
            );
        }
    }
    Ok(())
}

/// Every remote is asked what a sync would bring.
pub(super) async fn remotes(node: &Arc<Node>, looks: &mut Looks) -> Result<(), NodeError> {
    if node.store().remotes()?.is_empty() {
        return Ok(());
    }
    let request = SyncRequest { all: true, dry_run: true, ..SyncRequest::default() };
    let reply = crate::network::sync(node, &request, &|_| {}).await?;
    for row in reply.data["targets"].as_array().into_iter().flatten() {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        match text("state") {
            "would-sync" | "would-join" => looks.fine("remote", format!("{} is there", text("target"))),
            state => looks.finding("remote", format!("{}: {state}: {}", text("target"), text("message")), text("remedy")),
        }
    }
    Ok(())
}

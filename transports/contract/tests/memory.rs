//! The in-memory network, through the suite every link runs.

use cairn_contract::{conformance::link_suite, memory::pair};
use cairn_model::DeviceId;

#[tokio::test]
async fn memory_links_conform() {
    link_suite(|| async { pair(DeviceId([1; 32]), DeviceId([2; 32]), [3; 32]) }).await;
}

#[test]
fn the_memory_mailbox_keeps_the_contract() {
    let places: Vec<cairn_contract::memory::Shelf> = (0..7).map(|_| Default::default()).collect();
    cairn_contract::conformance::mailbox_suite(|n| cairn_contract::memory::MemoryMailbox::new(&places[n as usize]));
}

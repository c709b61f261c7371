//! The in-memory network, through the suite every link runs.

use cairn_contract::{conformance::link_suite, memory::pair};
use cairn_model::DeviceId;

#[tokio::test]
async fn memory_links_conform() {
    link_suite(|| async { pair(DeviceId([1; 32]), DeviceId([2; 32]), [3; 32]) }).await;
}

//! Two nodes in one process over an in-memory link: what `serve` does for two devices that stay near each other.

use cairn_contract::memory::pair;
use cairn_node::{AddRequest, Home, InviteRequest, JoinRequest, ListRequest, NewRequest, Node, Request, run_link};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn count(node: &Node) -> u64 {
    node.handle(Request::List(ListRequest::default())).unwrap().data["count"].as_u64().unwrap()
}

fn add(node: &Node, at: &str) {
    node.handle(Request::Add(AddRequest { at: Some(at.into()), ..Default::default() })).unwrap();
}

/// Waits for changes, not for time, until `wanted` are listed.
async fn until(node: &Node, wanted: u64) {
    let mut changes = node.changes();
    while count(node) < wanted {
        tokio::time::timeout(Duration::from_secs(10), changes.recv()).await.expect("a change arrives").ok();
    }
}

fn two(root: &std::path::Path) -> (Arc<Node>, Arc<Node>) {
    let (a, b) = (Home::at(root.join("a")).unwrap(), Home::at(root.join("b")).unwrap());
    a.create_project(&NewRequest { name: "Live".into(), ..Default::default() }).unwrap();
    let ana = Node::open(&a, None).unwrap();
    let ticket = ana.handle(Request::Invite(InviteRequest::default())).unwrap().data["ticket"].as_str().unwrap().to_owned();
    b.join_project(&JoinRequest { ticket, ..JoinRequest::default() }).unwrap();
    (Arc::new(ana), Arc::new(Node::open(&b, None).unwrap()))
}

fn device(node: &Node) -> cairn_model::DeviceId {
    node.handle(Request::Whoami).unwrap().data["device"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_flow_both_ways_while_a_link_is_open() {
    let root = tempfile::tempdir().unwrap();
    let (ana, bo) = two(root.path());
    add(&ana, "1,1");
    let (to_bo, to_ana) = pair(device(&ana), device(&bo), [9; 32]);
    let (a, b) = (ana.clone(), bo.clone());
    let serving = [
        tokio::spawn(async move { run_link(&a, to_bo, true, false, None, &|_| {}).await.synced }),
        tokio::spawn(async move { run_link(&b, to_ana, true, false, None, &|_| {}).await.synced }),
    ];
    until(&bo, 1).await;
    for n in 0..5 {
        let began = Instant::now();
        add(&ana, &format!("2,{n}"));
        until(&bo, 2 + 2 * n).await;
        println!("an edit was seen on the other device after {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        add(&bo, &format!("3,{n}"));
        until(&ana, 3 + 2 * n).await;
    }
    // A third device joins while the link is open: its invitation goes over live, before its observations could.
    ana.handle(Request::Invite(InviteRequest::default())).unwrap();
    add(&ana, "4,4");
    until(&bo, 12).await;
    let digest = |node: &Node| node.handle(Request::Status).unwrap().data["digest"].clone();
    let mut changes = bo.changes();
    while digest(&ana) != digest(&bo) {
        tokio::time::timeout(Duration::from_secs(10), changes.recv()).await.expect("the digests become equal").ok();
    }
    serving.iter().for_each(tokio::task::JoinHandle::abort);
}

//! A program that embeds Cairn: makes a project, records an observation and reads it back, without a process beside it.

use cairn_node::{AddRequest, Home, ListRequest, NewRequest, Node, NodeError, Request};

fn main() -> Result<(), NodeError> {
    let folder = std::env::temp_dir().join(format!("river-watch-{}", std::process::id()));
    let home = Home::at(&folder)?;
    home.create_project(&NewRequest { name: "River watch".into(), ..Default::default() })?;
    let node = Node::open(&home, None)?;
    let fields = vec![("species".into(), "giant otter".into()), ("count".into(), "3".into())];
    node.handle(Request::Add(AddRequest {
        category: Some("animal".into()),
        at: Some("-3.46,-62.21".into()),
        fields,
        ..Default::default()
    }))?;
    let list = node.handle(Request::List(ListRequest { limit: 10, ..Default::default() }))?;
    println!("{:#}", list.data);
    drop(node);
    std::fs::remove_dir_all(&folder).map_err(|e| NodeError::File { path: folder.display().to_string(), message: e.to_string() })
}

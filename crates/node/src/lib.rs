//! The runtime shell: owns a project's store, drives links, and answers the one request vocabulary that the command
//! line, the service, a page and a phone app share.
//!
//! ```no_run
//! use cairn_node::{Home, Node, Request, NewRequest, AddRequest};
//! let home = Home::at("/tmp/cairn-example")?;
//! home.create_project(&NewRequest { name: "River watch".into(), ..Default::default() })?;
//! let node = Node::open(&home, None)?;
//! let added = node.handle(Request::Add(AddRequest { category: Some("animal".into()), at: Some("-3.46,-62.21".into()), ..Default::default() }))?;
//! println!("{}", added.data["observation"]);
//! # Ok::<(), cairn_node::NodeError>(())
//! ```
//!
//! A runnable example: `cargo run -p cairn-node --example river_watch`.

mod backup;
mod budget;
mod bundles;
mod care_request;
mod carry;
mod client;
mod configuration;
mod configuration_edit;
mod configuration_request;
mod desk;
mod devices;
mod doctor;
mod door;
mod driver;
mod entering;
mod error;
mod events;
mod export;
mod going_back;
mod guard;
mod heard;
mod history;
mod home;
mod import;
mod jobs;
mod keystore;
mod mail;
mod neighbours;
mod network;
mod node;
mod pairs;
mod peers;
mod reading;
mod relay;
mod remotes;
mod request;
mod running;
mod serve;
mod settling;
mod show;
mod socket;
mod standing;
mod survey;
mod watch;
mod workshop;
mod writing;

pub use backup::RestoreChoice;
pub use cairn_model::{visible, visible_json};
pub use cairn_relay::{Network, Relay, RelayError, RelayUrl};
pub use client::Client;
pub use desk::{Tally, answer};
pub use driver::{LinkReport, Progress, run_link};
pub use error::NodeError;
pub use heard::{Heard, LetIn};
pub use home::{Home, KeyPlace, now_ms};
pub use jobs::{BackupStep, ExportStep, Job, Schedule, SodaStep, Step, Surroundings, Variable};
pub use mail::{Visit, VisitError, answer_mail, visit};
pub use network::peers_near;
pub use node::Node;
pub use relay::{Credentials, ProjectChoice, at_relay, relay_fault};
pub use request::{
    AddRequest, BackupRequest, BundleRequest, CategoryEdit, ConfigEdit, ConfigRequest, ConflictsRequest, CreateBundle, DeviceRequest,
    DoctorRequest, EditRequest, ExportRequest, FieldEdit, ImportRequest, InviteRequest, JobRequest, JoinRequest, ListRequest, NewRequest,
    PolicyRequest, ReadOptions, RemoteRequest, Reply, Request, RevertRequest, SyncRequest, WriteOptions,
};
pub use serve::{Live, ServeOptions, invite_live, serve};

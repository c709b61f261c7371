//! What a session and its caller say to each other: events and answers in, effects and requests out.

use crate::message::{CloseReason, Hello};
use cairn_model::{DeviceId, DocId, FeedId};
use cairn_trust::{BatchHash, ControlHash, EpochId, Frontier, Tip};

/// What the caller knows when a link is up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The device at the other end, by its TLS key.
    pub peer: DeviceId,
    /// 32 bytes of keying material of this TLS session.
    pub exporter: [u8; 32],
    /// The project's discovery key.
    pub discovery: [u8; 32],
    /// This device's display name.
    pub name: String,
    /// Port this device listens on, 0 if it does not.
    pub port: u16,
    /// Ask only what the other device has; exchange nothing.
    pub probe: bool,
}

/// What the device at the other end is, by the control log as it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It belongs.
    Member,
    /// Nothing is known of it: it may have joined since.
    Unknown,
    /// It was removed, by this signed operation.
    Removed(Vec<u8>),
}

/// The store as it is now, with the open batch cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Digest.
    pub digest: [u8; 32],
    /// Control heads.
    pub control: Vec<ControlHash>,
    /// Hashes of all control operations.
    pub control_all: Vec<ControlHash>,
    /// What is held.
    pub frontier: Frontier,
    /// Configuration lineage this device works with.
    pub configuration: DocId,
    /// Its version, for people.
    pub configuration_version: String,
    /// Data format, major.
    pub format_major: u16,
    /// The device asked about.
    pub peer: Standing,
    /// Configuration lineage it works with, by the control log as it is here.
    pub peer_configuration: DocId,
    /// Read keys this device should know and does not.
    pub keys_missing: Vec<EpochId>,
    /// A receipt of that device for exactly this frontier is here.
    pub has_receipt: bool,
    /// Observations shown.
    pub observations: u64,
    /// Names the receipts of third devices that are known here.
    pub witnesses: [u8; 8],
}

impl Snapshot {
    /// As told to a device that is not known here.
    pub(crate) fn untold(self) -> Self {
        let (digest, control, observations) = ([0; 32], Vec::new(), 0);
        Self { digest, control, observations, configuration: DocId([0; 16]), configuration_version: String::new(), ..self }
    }
}

/// A run of batches of one chain to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Push {
    /// The store's number of the chain.
    pub chain: u32,
    /// First batch.
    pub from: u64,
    /// The chain's tip.
    pub tip: Tip,
}

/// What the session asks of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Cut the open batch and tell how things are, as seen by this peer.
    Snapshot(DeviceId),
    /// Operations that are not in this list.
    ControlMissing(Vec<ControlHash>),
    /// Keep control operations.
    AddControl(Vec<Vec<u8>>),
    /// Operations by which another device can see that this one belongs.
    Introduce,
    /// Operations by which the peer shows that it belongs: kept only if it then does.
    Introduced(DeviceId, Vec<Vec<u8>>),
    /// Read keys the peer asks for by their ids.
    HandKeys(DeviceId, Vec<EpochId>),
    /// Keep the signed removal of this device, if it is one.
    TakeNotice(Vec<u8>),
    /// A device shows the join by which it enters.
    Enter(DeviceId, Vec<u8>),
    /// What a holder of these tips lacks; if gated, only of feeds that carry configurations. With the number of control
    /// operations of the last snapshot: batches that name later ones, or are sealed under their keys, must wait for them.
    MissingFor(Vec<Tip>, bool, usize),
    /// Rungs of one feed.
    Ladder(FeedId),
    /// What lies after the rungs of the other side.
    AfterLadder(FeedId, Vec<(u64, BatchHash)>),
    /// Chunks of a chain from a number on, up to so many bytes.
    Load(u32, u64, usize),
    /// Hold chunks, durably.
    Persist(Vec<Vec<u8>>),
    /// A receipt for what is durable now.
    MakeReceipt,
    /// Keep the peer's receipt.
    KeepReceipt(DeviceId, Vec<u8>),
    /// Whose receipts are known here, but for the peer's: device, incarnation, number.
    WitnessHave(DeviceId),
    /// Receipts of third devices that are not in the peer's list.
    WitnessesBeyond(DeviceId, Vec<(DeviceId, [u8; 16], u64)>),
    /// Keep receipts of third devices.
    KeepWitnesses(Vec<Vec<u8>>),
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To `Snapshot`.
    Snapshot(Box<Snapshot>),
    /// To `ControlMissing`.
    ControlOps(Vec<(ControlHash, Vec<u8>)>),
    /// To `AddControl`: done; the hashes of those that are here now.
    ControlAdded(Vec<ControlHash>),
    /// To `Introduce`.
    Introduction(Vec<Vec<u8>>),
    /// To `TakeNotice`, and to `HandKeys` (then look at the log again).
    Noticed,
    /// To `HandKeys`: operations for the peer are in the log now.
    KeysHanded,
    /// To `Introduced`.
    PeerIntroduced,
    /// To `Enter`: the control log.
    Welcome(Vec<Vec<u8>>),
    /// To `Enter`: a coordinator must approve.
    Pending,
    /// To `Enter`: the invitation lets nobody in any more.
    InvitationEnded,
    /// To `MissingFor` (with feeds whose common part is not known) and `AfterLadder`.
    Missing(Vec<Push>, Vec<FeedId>),
    /// To `MissingFor`: the control log has grown since the snapshot; look again.
    Stale,
    /// To `Ladder`.
    Rungs(FeedId, Vec<(u64, BatchHash)>),
    /// To `Load`.
    Chunks(Vec<Vec<u8>>),
    /// To `Persist`: tips of what the chunks brought or repeated, number newly held, and whether all were of this project.
    Persisted {
        /// Last batch of each feed in the set.
        tips: Vec<Tip>,
        /// Newly held.
        held: u64,
        /// Dropped as forged or foreign.
        dropped: u64,
    },
    /// To `MakeReceipt`.
    Receipt(Vec<u8>),
    /// To `KeepReceipt`: its frontier, or `None` if it was not the peer's.
    ReceiptKept(Option<Frontier>),
    /// To `WitnessHave`.
    WitnessHave(Vec<(DeviceId, [u8; 16], u64)>),
    /// To `WitnessesBeyond`.
    Witnesses(Vec<Vec<u8>>),
    /// To `KeepWitnesses`.
    WitnessesKept,
    /// The store refused; nothing was done.
    Failed,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A frame arrived.
    Frame(Vec<u8>),
    /// The store answered the request with this number.
    Answer(u64, Answer),
    /// The store changed for another reason than this session.
    Changed,
}

/// What the caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a message (the caller frames it).
    Send(Vec<u8>),
    /// Ask the store and answer with the same number.
    Store(u64, Request),
    /// The peer is known and proved; its hello, for people and remembered addresses.
    Met(Box<Hello>),
    /// Both sides hold the same as of now and have said so.
    Synced,
    /// The short code was tried: with success or not, it is used up.
    CodeTried(bool),
    /// A device was let in by its invitation.
    LetIn,
    /// End the link.
    Close(CloseReason),
}

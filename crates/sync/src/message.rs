//! Messages of a link, as CBOR arrays `[number, map]`; unknown numbers are skipped.

use crate::limits;
use cairn_model::{DeviceId, DocId, FeedId};
use cairn_trust::{BatchHash, ControlHash, EpochId, Tip};
use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decode, Decoder, Encode, Encoder};

/// Protocol of this version: major must be equal, minor may differ.
pub const VERSION: (u16, u16) = (1, 0);

/// Why a link is closed. The numbers are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// All is said.
    #[error("done")]
    Done = 0,
    /// The other side did not prove that it knows the project.
    #[error("no common project")]
    NotProved = 1,
    /// Not a member, or removed.
    #[error("this device is not a member of the project there")]
    NotMember = 2,
    /// Another major protocol version.
    #[error("the other device speaks another version of the protocol")]
    Protocol = 3,
    /// Another configuration lineage or data format.
    #[error("the other device works with another configuration or data format")]
    Configuration = 4,
    /// Bytes that break the protocol.
    #[error("the other device sent something that is not of this protocol")]
    Malformed = 5,
    /// The store refused: disk full, damaged.
    #[error("the store could not keep what arrived")]
    Store = 6,
    /// This device was removed from the project.
    #[error("this device was removed from the project")]
    Removed = 7,
    /// A request to enter is noted and waits.
    #[error("a coordinator must approve this device")]
    Pending = 8,
    /// The invitation is used up or was revoked, or the request refused.
    #[error("this invitation lets nobody in any more: it is used up or was revoked, or the request was refused")]
    InvitationEnded = 9,
    /// Not the code that is shown there; it is used up now.
    #[error("wrong code; it is used up now")]
    WrongCode = 10,
}

impl CloseReason {
    /// The reason behind a number; unknown ones read as malformed.
    pub fn from_number(n: u64) -> Self {
        use CloseReason as C;
        [
            C::Done,
            C::NotProved,
            C::NotMember,
            C::Protocol,
            C::Configuration,
            C::Store,
            C::Removed,
            C::Pending,
            C::InvitationEnded,
            C::WrongCode,
        ]
        .into_iter()
        .find(|r| *r as u64 == n)
        .unwrap_or(C::Malformed)
    }
}

/// What each side says of itself once the other has proved the project.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Protocol, major and minor.
    pub version: (u16, u16),
    /// Proof of the project, bound to the channel.
    pub proof: [u8; 32],
    /// Display name.
    pub name: String,
    /// Equal digests end the sync.
    pub digest: [u8; 32],
    /// Control heads.
    pub control: Vec<ControlHash>,
    /// Configuration lineage.
    pub configuration: DocId,
    /// Configuration version, for people.
    pub configuration_version: String,
    /// Data format, major.
    pub format_major: u16,
    /// Port this device listens on, 0 if it does not.
    pub port: u16,
    /// No receipt of the other side is here that covers this digest.
    pub wants_receipt: bool,
    /// The link is asked only what it would bring; nothing is exchanged.
    pub probe: bool,
    /// Observations here, for people.
    pub observations: u64,
    /// Names the receipts of third devices that are known here; `None` from versions that hand none on.
    pub witnesses: Option<[u8; 8]>,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// First of the dialler: version and proof, nothing else.
    Proof((u16, u16), [u8; 32]),
    /// Who is here and with what.
    Hello(Hello),
    /// Hashes of all control operations held.
    ControlHave(Vec<ControlHash>),
    /// Control operations the other side lacks, and whether these are the last of them.
    Control(Vec<Vec<u8>>, bool),
    /// What this side holds.
    Frontier(Vec<Tip>),
    /// So many batches will come.
    Plan(u64),
    /// One sealed chunk.
    Chunk(Vec<u8>),
    /// Hashes at growing steps back in one feed.
    Ladder(FeedId, Vec<(u64, BatchHash)>),
    /// Nothing more to send for now; counted from 1.
    Sent(u64),
    /// The answer to a `Sent` (0 where none was needed): a signed frontier.
    Receipt(u64, Vec<u8>),
    /// The device is not known here: it is asked to show by what it belongs.
    Introduce,
    /// The operations that do.
    Introduction(Vec<Vec<u8>>),
    /// The signed operation that removed the device at the other end: all it is told.
    Removed(Vec<u8>),
    /// Read keys this side should know by the log and does not.
    NeedKeys(Vec<EpochId>),
    /// Whose receipts are known here: device, incarnation, number.
    WitnessHave(Vec<(DeviceId, [u8; 16], u64)>),
    /// Receipts of third devices that the other side does not have.
    Witnesses(Vec<Vec<u8>>),
    /// First answer to a dialler that proved an invitation: a proof and the display name of who is there.
    Host([u8; 32], String),
    /// The join by which the dialler enters.
    Enter(Vec<u8>),
    /// The request is noted and waits for approval.
    Pending,
    /// One side's half of a pairing by short code; the first message of such a dialler.
    Pair(Vec<u8>),
    /// Proof of the pairing's key.
    Paired([u8; 32]),
    /// An invitation, over a paired channel: a ticket's text.
    Invitation(String),
    /// A number this version does not know.
    Unknown(u8),
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct HelloCbor {
    #[n(1)]
    version: (u16, u16),
    #[n(2)]
    proof: ByteArray<32>,
    #[n(3)]
    name: String,
    #[n(4)]
    digest: ByteArray<32>,
    #[n(5)]
    control: Vec<ControlHash>,
    #[n(6)]
    configuration: ByteArray<16>,
    #[n(7)]
    configuration_version: String,
    #[n(8)]
    format_major: u16,
    #[n(9)]
    port: u16,
    #[n(10)]
    wants_receipt: bool,
    #[n(11)]
    probe: Option<bool>,
    #[n(12)]
    observations: Option<u64>,
    #[n(13)]
    witnesses: Option<ByteArray<8>>,
}

#[derive(Encode, Decode)]
struct Known {
    #[n(0)]
    device: ByteArray<32>,
    #[n(1)]
    incarnation: ByteArray<16>,
    #[n(2)]
    counter: u64,
}

type Wire<T> = Result<T, minicbor::decode::Error>;

impl Message {
    /// Bytes of the message, without frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut e = Encoder::new(&mut out);
        self.write(&mut e).expect("encoding to memory");
        out
    }

    fn write(&self, e: &mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        match self {
            Message::Proof(version, proof) => e.array(3)?.u8(1)?.encode(version)?.bytes(proof)?,
            Message::Hello(h) => e.array(2)?.u8(2)?.encode(HelloCbor::from(h))?,
            Message::ControlHave(hashes) => e.array(2)?.u8(3)?.encode(hashes)?,
            Message::Control(ops, last) => {
                e.array(3)?.u8(4)?.encode(ops.iter().map(|o| ByteVec::from(o.clone())).collect::<Vec<_>>())?.bool(*last)?
            }
            Message::Frontier(tips) => e.array(2)?.u8(5)?.encode(tips)?,
            Message::Plan(n) => e.array(2)?.u8(6)?.u64(*n)?,
            Message::Chunk(bytes) => e.array(2)?.u8(7)?.bytes(bytes)?,
            Message::Ladder(feed, rungs) => e.array(3)?.u8(8)?.bytes(&feed.0)?.encode(rungs)?,
            Message::Sent(n) => e.array(2)?.u8(9)?.u64(*n)?,
            Message::Receipt(n, bytes) => e.array(3)?.u8(10)?.u64(*n)?.bytes(bytes)?,
            Message::Introduce => e.array(1)?.u8(11)?,
            Message::Introduction(ops) => e.array(2)?.u8(12)?.encode(ops.iter().map(|o| ByteVec::from(o.clone())).collect::<Vec<_>>())?,
            Message::Removed(op) => e.array(2)?.u8(13)?.bytes(op)?,
            Message::NeedKeys(ids) => e.array(2)?.u8(14)?.encode(ids.iter().map(|i| ByteArray::from(i.0)).collect::<Vec<_>>())?,
            Message::WitnessHave(known) => {
                let row = |(device, incarnation, counter): &(DeviceId, [u8; 16], u64)| Known {
                    device: device.0.into(),
                    incarnation: (*incarnation).into(),
                    counter: *counter,
                };
                e.array(2)?.u8(15)?.encode(known.iter().map(row).collect::<Vec<_>>())?
            }
            Message::Witnesses(receipts) => {
                e.array(2)?.u8(16)?.encode(receipts.iter().map(|r| ByteVec::from(r.clone())).collect::<Vec<_>>())?
            }
            Message::Host(proof, name) => e.array(3)?.u8(20)?.bytes(proof)?.str(name)?,
            Message::Enter(op) => e.array(2)?.u8(21)?.bytes(op)?,
            Message::Pending => e.array(1)?.u8(22)?,
            Message::Pair(half) => e.array(2)?.u8(23)?.bytes(half)?,
            Message::Paired(proof) => e.array(2)?.u8(24)?.bytes(proof)?,
            Message::Invitation(text) => e.array(2)?.u8(25)?.str(text)?,
            Message::Unknown(n) => e.array(1)?.u8(*n)?,
        };
        Ok(())
    }

    /// Reads one message; lists past their limit are refused before they are allocated.
    pub fn decode(bytes: &[u8]) -> Wire<Self> {
        let mut d = Decoder::new(bytes);
        if d.array()?.is_none_or(|n| n == 0) {
            return Err(minicbor::decode::Error::message("not a message"));
        }
        let message = match d.u8()? {
            1 => {
                let version = d.decode()?;
                Message::Proof(version, *d.decode::<ByteArray<32>>()?)
            }
            2 => Message::Hello(Hello::from(d.decode::<HelloCbor>()?)),
            3 => Message::ControlHave(list(&mut d, limits::CONTROL_OPS)?),
            4 => {
                let ops = list::<ByteVec>(&mut d, limits::CONTROL_OPS)?;
                Message::Control(ops.into_iter().map(Into::into).collect(), d.bool()?)
            }
            5 => Message::Frontier(list(&mut d, cairn_trust::limits::FRONTIER_TIPS)?),
            6 => Message::Plan(d.u64()?),
            7 => Message::Chunk(d.bytes()?.to_vec()),
            8 => {
                let feed = FeedId(*d.decode::<ByteArray<16>>()?);
                Message::Ladder(feed, list(&mut d, limits::RUNGS)?)
            }
            9 => Message::Sent(d.u64()?),
            10 => {
                let n = d.u64()?;
                Message::Receipt(n, d.bytes()?.to_vec())
            }
            11 => Message::Introduce,
            12 => Message::Introduction(list::<ByteVec>(&mut d, limits::CONTROL_OPS)?.into_iter().map(Into::into).collect()),
            13 => Message::Removed(d.bytes()?.to_vec()),
            14 => Message::NeedKeys(list::<ByteArray<16>>(&mut d, cairn_trust::limits::CHAIN_KEYS)?.iter().map(|i| EpochId(**i)).collect()),
            15 => {
                let rows = list::<Known>(&mut d, limits::WITNESSES)?;
                Message::WitnessHave(rows.into_iter().map(|r| (DeviceId(*r.device), *r.incarnation, r.counter)).collect())
            }
            16 => Message::Witnesses(list::<ByteVec>(&mut d, limits::WITNESSES)?.into_iter().map(Into::into).collect()),
            20 => {
                let proof = *d.decode::<ByteArray<32>>()?;
                Message::Host(proof, d.str()?.chars().take(256).collect())
            }
            21 => Message::Enter(d.bytes()?.to_vec()),
            22 => Message::Pending,
            23 => Message::Pair(d.bytes()?.to_vec()),
            24 => Message::Paired(*d.decode::<ByteArray<32>>()?),
            25 => Message::Invitation(d.str()?.to_owned()),
            n => Message::Unknown(n),
        };
        Ok(message)
    }
}

fn list<'b, T: Decode<'b, ()>>(d: &mut Decoder<'b>, most: usize) -> Wire<Vec<T>> {
    let len = d.array()?.ok_or_else(|| minicbor::decode::Error::message("indefinite list"))?;
    // Every element takes at least a byte, so a length past what is left is a lie.
    if len > most as u64 || len > d.input().len() as u64 {
        return Err(minicbor::decode::Error::message("list too long"));
    }
    (0..len).map(|_| d.decode()).collect()
}

/// Version and proof from a dialler's first frame, to find the project it speaks of.
pub fn first_proof(frame: &[u8]) -> Option<((u16, u16), [u8; 32])> {
    match Message::decode(frame) {
        Ok(Message::Proof(version, proof)) => Some((version, proof)),
        _ => None,
    }
}

impl From<&Hello> for HelloCbor {
    fn from(h: &Hello) -> Self {
        Self {
            version: h.version,
            proof: h.proof.into(),
            name: h.name.clone(),
            digest: h.digest.into(),
            control: h.control.clone(),
            configuration: h.configuration.0.into(),
            configuration_version: h.configuration_version.clone(),
            format_major: h.format_major,
            port: h.port,
            wants_receipt: h.wants_receipt,
            probe: Some(h.probe),
            observations: Some(h.observations),
            witnesses: h.witnesses.map(Into::into),
        }
    }
}

impl From<HelloCbor> for Hello {
    fn from(h: HelloCbor) -> Self {
        Self {
            version: h.version,
            proof: *h.proof,
            name: h.name.chars().take(256).collect(),
            digest: *h.digest,
            control: h.control,
            configuration: DocId(*h.configuration),
            configuration_version: h.configuration_version,
            format_major: h.format_major,
            port: h.port,
            wants_receipt: h.wants_receipt,
            probe: h.probe.unwrap_or(false),
            observations: h.observations.unwrap_or(0),
            witnesses: h.witnesses.map(|w| *w),
        }
    }
}

//! The replication engine, sans-IO. No runtime, no files, no clock, no randomness.
//!
//! # Calling contract
//!
//! A [`Session`] lives as long as one link to one device. The caller
//!
//! 1. makes it with [`Session::dial`] or [`Session::accept`] and carries out the effects that come back, in order;
//! 2. feeds it [`Event`]s and carries out the effects each returns, in order, before the next event;
//! 3. answers every [`Effect::Store`] exactly once with [`Event::Answer`], by way of a [`Request`]; writing requests
//!    are answered only when the transaction is durable, or with [`Answer::Failed`];
//! 4. gives [`Event::Changed`] when the store changed for any other reason (an edit, another link);
//! 5. stops reading from the link while [`Session::wants_frames`] is `false`;
//! 6. drops the session when the link ends, for any reason: nothing in it survives, and nothing needs to.
//!
//! The session never sends a chunk that it did not read from the store, so nothing is sent before it is durable.
//!
//! # Mailboxes
//!
//! An [`Exchange`] is one visit to a mailbox. [`Exchange::start`] and each [`Exchange::step`] give one [`MailEffect`]; the caller
//! carries it out and gives the event that answers it. [`MailRequest::Persist`] and [`MailRequest::Note`] are answered only when
//! durable. Whatever fails, the caller drops the exchange: what was taken is taken, what was not committed is not there,
//! and the next visit goes on; where the mailbox failed, the caller has the store note [`Exchange::interrupted`] first. [`Exchange::outcome`] tells at any time what was done.
//!
//! # What it survives
//!
//! A link is an ordered stream of frames that may end at any byte. Everything may be repeated on the next link:
//! the store ignores what it holds. A store may refuse ([`Answer::Failed`]): the session closes and says so.
//!
//! The wire is described in `PROTOCOL.md`.
#![doc = include_str!("../PROTOCOL.md")]
#![warn(missing_docs)]

mod calls;
mod entry;
mod exchange;
mod frame;
pub mod limits;
mod message;
mod progress;
mod session;

pub use calls::{Answer, Effect, Event, Push, Request, Setup, Snapshot, Standing};
pub use entry::{Guest, Host, HostSetup, Step, Way};
pub use exchange::{
    Exchange, ExchangeSetup, Known, Lacking, Listed, Lot, Made, MailAnswer, MailEffect, MailEvent, MailRequest, Memory, Outcome, Shown,
    Taken, Tried,
};
pub use frame::{FrameError, FrameReader, frame};
pub use message::{CloseReason, Hello, Message, VERSION, first_proof};
pub use progress::Progress;
pub use session::Session;

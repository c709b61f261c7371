//! What an observation, a configuration and an id is. Pure: no clock, no files, no randomness.
//!
//! This crate is the only one that knows the keys inside a document and the only one that
//! touches Automerge. A document is a flat map of scalars; [`DocState`] merges changes by the
//! same rule Automerge uses, without building an op set (held equal by `tests/differential.rs`).
#![warn(missing_docs)]

mod change;
mod configuration;
mod configuration_check;
mod dataset;
mod default_configuration;
mod edit;
mod ids;
mod instant;
mod key;
pub mod limits;
mod observation;
mod observation_ref;
mod place;
mod shape;
mod state;
mod value;
mod visible;

pub use change::{ActorId, Change, ChangeError, ChangeHash, ChangeIntent, NewChange, Op, OpAction, OpId};
pub use configuration::{Category, Configuration, Field, FieldChoice, FieldType, Scalar, Tags, TypedFault, message_key};
pub use configuration_check::Remark;
pub use dataset::{ConfigurationVersion, Dataset};
pub use default_configuration::default_configuration;
pub use edit::{Edit, EditError, check_sizes};
pub use ids::{ChunkHash, DeviceId, DocId, DocKind, FeedId, IdError, ProjectId, UnitId, hex, import_identity, unhex};
pub use instant::{Instant, TimeError};
pub use key::{DocKey, UNCATEGORISED, escape, typed_field, unescape};
pub use observation::{FieldValue, Observation};
pub use observation_ref::{FieldRef, ObservationRef};
pub use place::{Place, PlaceError};
pub use shape::{Coord, Shape, ShapeError};
pub use state::{ApplyError, DocState, LiveOp, StateBuilder};
pub use value::{Value, ValueRef};
pub use visible::{is_hidden, is_plain_name, visible, visible_json, visible_line};

//! The control log: signed operations that say who belongs and with which role.
//!
//! [`ControlOp`] is one operation; [`Log`] admits those whose own ancestry shows the right to say them; [`evaluate`] is the
//! pure function from the set of admitted operations to a [`Membership`].

mod evaluate;
mod log;
mod membership;
mod op;
mod roles;

pub use evaluate::evaluate;
pub use log::{Admitted, Log, Refusal};
pub use membership::{Accepted, Ended, EpochState, Former, Invitation, Member, Membership, Pending, Right};
pub use op::{
    Add, ControlError, ControlHash, ControlOp, Convey, EpochOp, Genesis, Invite, InviteMode, Issuer, Join, OpBody, Policy, Remove,
    RemoveMode, SetRole,
};
pub use roles::{ROLES, Rights, Role};

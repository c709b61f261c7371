//! Limits on local writes: value, unit, reason. Receipt has its own limits (`cairn-trust`), which never depend on what else is here.

/// Bytes of one field value: a long interview fits, a photo does not (photos are media).
pub const FIELD_VALUE_BYTES: usize = 1 << 20;
/// Bytes of one document's state: keeps every edit and view in memory on a phone.
pub const DOCUMENT_BYTES: usize = 16 << 20;
/// Keys in one change: one row of the widest table people bring (XLSForm, 1,000 columns) fits.
pub const OPS_PER_CHANGE: usize = 4096;
/// Operations that those of one change may name as their predecessors, in all.
pub const PREDS_PER_CHANGE: usize = 4 * OPS_PER_CHANGE;
/// Bytes of one document key.
pub const KEY_BYTES: usize = 1024;
/// Bytes of one change alone, as it may be received.
pub const CHANGE_BYTES: usize = 2 << 20;
/// Actors one change may name besides its own.
pub const OTHER_ACTORS: usize = 1024;
/// Dependencies of one change: more concurrent heads than devices in any project.
pub const CHANGE_DEPS: usize = 1024;

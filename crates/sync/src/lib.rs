//! cairn-sync

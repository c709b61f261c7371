//! cairn-trust

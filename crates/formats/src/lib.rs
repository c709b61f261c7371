//! cairn-formats

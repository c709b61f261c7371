//! cairn-quic

//! cairn-contract

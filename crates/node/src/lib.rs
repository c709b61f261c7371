//! node
mod desk;
pub use desk::{Tally, answer};

//! Frames: a 4-byte little-endian length, then a message. The length is checked before anything is allocated.

use crate::limits;

/// Why a stream of bytes is no stream of frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A frame of no bytes.
    #[error("an empty frame")]
    Empty,
    /// Longer than allowed here.
    #[error("a frame of {len} bytes; at most {most} are allowed")]
    TooLong {
        /// Announced.
        len: usize,
        /// Allowed.
        most: usize,
    },
}

/// A message with its length before it.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 4);
    out.extend((message.len() as u32).to_le_bytes());
    out.extend(message);
    out
}

/// Cuts a stream that arrives in any pieces into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
    first_done: bool,
}

impl FrameReader {
    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > limits::FRAME_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived. The first frame has a lower limit: it comes from a stranger.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some(head) = rest.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        let most = if self.first_done { limits::FRAME_BYTES } else { limits::FIRST_FRAME_BYTES };
        if len > most {
            return Err(FrameError::TooLong { len, most });
        }
        if len == 0 {
            return Err(FrameError::Empty);
        }
        let Some(message) = rest.get(4..4 + len) else { return Ok(None) };
        let message = message.to_vec();
        self.start += 4 + len;
        self.first_done = true;
        Ok(Some(message))
    }

    /// For the side that dials, whose first frame is a whole hello of a device it already trusts to exist.
    pub fn expect_hello(&mut self) {
        self.first_done = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_from_any_pieces() {
        let stream: Vec<u8> = [frame(b"first"), frame(&[7; 5000]), frame(b"x")].concat();
        for piece in [1, 3, 4, 1000] {
            let mut reader = FrameReader::default();
            let mut out = Vec::new();
            for part in stream.chunks(piece) {
                reader.push(part);
                while let Some(f) = reader.next_frame().unwrap() {
                    out.push(f.len());
                }
            }
            assert_eq!(out, [5, 5000, 1]);
        }
    }

    #[test]
    fn lengths_are_refused_before_they_are_believed() {
        for len in [0u32, 257, u32::MAX, 1 << 31] {
            let mut reader = FrameReader::default();
            reader.push(&len.to_le_bytes());
            assert!(reader.next_frame().is_err(), "{len}");
        }
    }
}

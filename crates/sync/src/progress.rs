//! What a session has done, planned first and then counted: it never runs backwards.

/// Numbers of one session so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Batches to send, as far as known.
    pub to_send: u64,
    /// Batches sent.
    pub sent: u64,
    /// Bytes of chunks sent.
    pub sent_bytes: u64,
    /// Batches the other side has announced.
    pub to_receive: u64,
    /// Batches received and durable.
    pub received: u64,
    /// Bytes of chunks received.
    pub received_bytes: u64,
    /// Bytes of all frames, both ways.
    pub wire_bytes: u64,
    /// Times the direction of the conversation turned: 1 for a sync with nothing to say.
    pub round_trips: u32,
}

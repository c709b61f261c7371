//! Text of any encoding as UTF-8, a little at a time.

use crate::FormatError;
use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use std::io::Read;

/// Bytes looked at before the encoding is decided.
const LOOK: usize = 64 << 10;

/// An input that gives UTF-8 (or, where the encoding is UTF-8, the bytes as they are, for the reader to check).
pub(crate) struct Text {
    input: Box<dyn Read + Send>,
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    raw_used: usize,
    out: Vec<u8>,
    out_used: usize,
    ended: bool,
    /// The decoder has given its last.
    finished: bool,
    /// What it is read as.
    pub encoding: &'static Encoding,
    /// Nobody said so: it is neither marked nor valid UTF-8.
    pub guessed: bool,
}

impl Text {
    /// Decides the encoding: as told, by its byte order mark, by its zeros, as UTF-8 if it is that, else Windows-1252.
    pub fn new(mut input: Box<dyn Read + Send>, told: Option<&str>) -> Result<Self, FormatError> {
        let mut head = Vec::new();
        input.by_ref().take(LOOK as u64).read_to_end(&mut head)?;
        let marked = Encoding::for_bom(&head);
        let named = told.map(|name| {
            let known = Encoding::for_label(name.trim().as_bytes());
            known.ok_or_else(|| FormatError::Options(format!("`{name}` is no encoding that is known: as utf-8, windows-1252, utf-16le")))
        });
        let named = named.transpose()?;
        let (encoding, skip, guessed) = match (named, marked) {
            (Some(named), Some((mark, skip))) if named == mark => (named, skip, false),
            (Some(named), _) => (named, 0, false),
            (None, Some((mark, skip))) => (mark, skip, false),
            (None, None) => {
                let (encoding, guessed) = look(&head);
                (encoding, 0, guessed)
            }
        };
        head.drain(..skip);
        let decoder = (encoding != UTF_8).then(|| encoding.new_decoder_without_bom_handling());
        Ok(Self { input, decoder, raw: head, raw_used: 0, out: Vec::new(), out_used: 0, ended: false, finished: false, encoding, guessed })
    }

    fn more_raw(&mut self) -> std::io::Result<()> {
        if self.raw_used < self.raw.len() || self.ended {
            return Ok(());
        }
        self.raw.resize(LOOK, 0);
        self.raw_used = 0;
        let got = self.input.read(&mut self.raw)?;
        self.raw.truncate(got);
        self.ended = got == 0;
        Ok(())
    }

    fn more_text(&mut self) -> std::io::Result<()> {
        while self.out_used >= self.out.len() {
            self.more_raw()?;
            let Some(decoder) = self.decoder.as_mut().filter(|_| !self.finished) else { return Ok(()) };
            self.out.resize(4 * LOOK, 0);
            self.out_used = 0;
            let (result, read, written, _) = decoder.decode_to_utf8(&self.raw[self.raw_used..], &mut self.out, self.ended);
            self.raw_used += read;
            self.out.truncate(written);
            self.finished = self.ended && result == CoderResult::InputEmpty;
        }
        Ok(())
    }
}

impl Read for Text {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.decoder.is_none() {
            self.more_raw()?;
            let take = buf.len().min(self.raw.len() - self.raw_used);
            buf[..take].copy_from_slice(&self.raw[self.raw_used..self.raw_used + take]);
            self.raw_used += take;
            return Ok(take);
        }
        self.more_text()?;
        let take = buf.len().min(self.out.len() - self.out_used);
        buf[..take].copy_from_slice(&self.out[self.out_used..self.out_used + take]);
        self.out_used += take;
        Ok(take)
    }
}

fn look(head: &[u8]) -> (&'static Encoding, bool) {
    let zeros = |odd: usize| head.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
    let many = head.len() / 8;
    if many > 0 && zeros(1) > many && zeros(0) < many / 4 {
        return (UTF_16LE, true);
    }
    if many > 0 && zeros(0) > many && zeros(1) < many / 4 {
        return (UTF_16BE, true);
    }
    match std::str::from_utf8(head) {
        Ok(_) => (UTF_8, false),
        // Cut in the middle of a character.
        Err(e) if e.error_len().is_none() && head.len() == LOOK => (UTF_8, false),
        Err(_) => (WINDOWS_1252, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], told: Option<&str>) -> (String, &'static str) {
        let mut text = Text::new(Box::new(std::io::Cursor::new(bytes.to_vec())), told).unwrap();
        let mut out = String::new();
        text.read_to_string(&mut out).unwrap();
        (out, text.encoding.name())
    }

    #[test]
    fn encodings_are_recognised_or_told() {
        let word = "Großer Brachvogel, 釧路湿原\n".repeat(9000);
        assert_eq!(read(word.as_bytes(), None), (word.clone(), "UTF-8"));
        let wide: Vec<u8> = word.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut marked = vec![0xff, 0xfe];
        marked.extend(&wide);
        assert_eq!(read(&marked, None), (word.clone(), "UTF-16LE"));
        assert_eq!(read(&wide, Some("utf-16le")), (word, "UTF-16LE"));
        assert_eq!(read(b"F\xf6hr", None), ("Föhr".into(), "windows-1252"));
        assert_eq!(read(b"\xef\xbb\xbfx", None), ("x".into(), "UTF-8"));
        assert!(Text::new(Box::new(std::io::empty()), Some("klingon")).is_err());
    }
}

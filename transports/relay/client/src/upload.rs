//! Chunks on their way to a relay, beside the device's other work: what is there is not sent, large ones go in pieces.

use crate::error::RelayError;
use crate::http::{Payload, header};
use crate::mailbox::{is_full, is_vital};
use bytes::Bytes;
use cairn_model::ChunkHash;
use cairn_relay_wire::{FRAMES_TYPE, NAMES_TYPE, Uploaded, frames};
use reqwest::Method;

/// A chunk above this goes in pieces, for the same reason.
pub(crate) const IN_PIECES: usize = 512 << 10;
/// Bytes of a piece.
const PIECE_BYTES: usize = 256 << 10;
/// One request's worth of chunks on its way.
pub(crate) struct Upload {
    pub(crate) http: crate::http::Http,
    pub(crate) path: String,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) ask_first: bool,
}

impl Upload {
    /// Gives how many were there already.
    pub(crate) async fn run(&mut self, chunks: Vec<Vec<u8>>) -> Result<u32, RelayError> {
        let mut there = vec![false; chunks.len()];
        if self.ask_first {
            let shorts: Vec<u8> = chunks.iter().flat_map(|c| ChunkHash::of(c).short()).collect();
            let payload = Payload::Bytes(NAMES_TYPE, shorts.into());
            let response = self.http.send_with(Method::POST, &format!("{}/has", self.path), self.headers.clone(), payload).await?;
            let said = response.bytes().await.map_err(|e| self.http.broke_off(&e))?;
            there.iter_mut().zip(said).for_each(|(t, s)| *t = s > 0);
        }
        let lacking: Vec<&Vec<u8>> = chunks.iter().zip(&there).filter(|(_, t)| !**t).map(|(c, _)| c).collect();
        let (large, small): (Vec<&Vec<u8>>, Vec<&Vec<u8>>) = lacking.into_iter().partition(|c| c.len() > IN_PIECES);
        for chunk in large {
            self.in_pieces(chunk).await?;
        }
        let mut found = there.iter().filter(|t| **t).count() as u32;
        if small.is_empty() {
            return Ok(found);
        }
        match self.together(&small).await {
            Ok(more) => found += more,
            Err(e) => {
                let vital: Vec<&Vec<u8>> = small.into_iter().filter(|c| is_vital(c)).collect();
                if is_full(&e) && !vital.is_empty() {
                    // Whoever waits for keys must not wait for room.
                    self.together(&vital).await?;
                }
                return Err(e);
            }
        }
        Ok(found)
    }

    /// In one request; gives how many were there already.
    async fn together(&self, chunks: &[&Vec<u8>]) -> Result<u32, RelayError> {
        let body = Bytes::from(frames(chunks.iter().map(|c| c.as_slice())));
        let (path, payload) = (format!("{}/chunks", self.path), Payload::Bytes(FRAMES_TYPE, body));
        let response = self.http.send_with(Method::POST, &path, self.headers.clone(), payload).await?;
        let body = response.bytes().await.map_err(|e| self.http.broke_off(&e))?;
        Ok(serde_json::from_slice::<Uploaded>(&body).map_or(0, |u| u.there))
    }

    /// Goes on where an earlier try stopped.
    async fn in_pieces(&self, chunk: &[u8]) -> Result<(), RelayError> {
        let path = format!("{}/uploads/{}", self.path, ChunkHash::of(chunk));
        let response = self.http.send_with(Method::HEAD, &path, self.headers.clone(), Payload::None).await?;
        let said = header(&response, "upload-offset").unwrap_or("0");
        if said == "complete" {
            return Ok(());
        }
        let mut at = said.parse::<usize>().unwrap_or(0).min(chunk.len());
        loop {
            let piece = &chunk[at..chunk.len().min(at + PIECE_BYTES)];
            let last = at + piece.len() == chunk.len();
            let mut headers = self.headers.clone();
            headers.insert("upload-offset", at.into());
            if last {
                headers.insert("upload-complete", reqwest::header::HeaderValue::from_static("true"));
            }
            let payload = Payload::Bytes("application/octet-stream", Bytes::copy_from_slice(piece));
            self.http.send_with(Method::PATCH, &path, headers, payload).await?;
            if last {
                return Ok(());
            }
            at += piece.len();
        }
    }
}

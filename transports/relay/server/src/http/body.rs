//! Bodies, read with limits on size, time and memory before anything is kept.

use super::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use cairn_relay_wire::{Code, limits};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A sender that pauses longer is gone.
const PAUSE: Duration = Duration::from_secs(20);
/// And one that takes longer in all: eight megabytes at ten kilobytes a second.
const WHOLE: Duration = Duration::from_secs(840);
/// Memory for bodies being read, in KiB: who comes when it is used up waits for a while.
const MEMORY_KIB: usize = 64 << 10;
/// Taken of it at once, as the bytes come: what was only announced takes nothing.
const STEP_KIB: u32 = 64;

static MEMORY: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(MEMORY_KIB));

/// A body, and its share of memory until it is dropped.
pub(crate) struct Whole {
    pub bytes: Bytes,
    _share: Option<SemaphorePermit<'static>>,
}

fn too_large(most: usize) -> Refusal {
    Refusal::new(Code::TooLarge, format!("the body is larger than {most} bytes"))
}

/// Reads a body of this type and at most so many bytes. Nothing compressed: what is stored does not compress.
pub(crate) async fn read(headers: &HeaderMap, body: Body, media: &str, most: usize) -> Result<Whole, Refusal> {
    let is = |name: header::HeaderName, wanted: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(wanted)))
    };
    if !is(header::CONTENT_TYPE, media) {
        return Err(Refusal::new(Code::MediaType, format!("this path takes {media}")));
    }
    if headers.contains_key(header::CONTENT_ENCODING) && !is(header::CONTENT_ENCODING, "identity") {
        return Err(Refusal::new(Code::MediaType, "bodies are taken uncompressed only"));
    }
    let said = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if said.is_some_and(|n| n > most) {
        return Err(too_large(most));
    }
    tokio::time::timeout(WHOLE, collect(body, most)).await.map_err(|_| slow())?
}

fn slow() -> Refusal {
    Refusal::new(Code::Slow, "the body came too slowly")
}

/// One step more of the memory for bodies.
async fn more(share: &mut Option<SemaphorePermit<'static>>) -> Result<(), Refusal> {
    let busy = |_| Refusal::new(Code::Unavailable, "the relay is busy: try again");
    let got = tokio::time::timeout(PAUSE, MEMORY.acquire_many(STEP_KIB)).await.map_err(busy)?;
    let got = got.map_err(|_| Refusal::new(Code::Unavailable, "the relay is closing"))?;
    match share {
        Some(share) => share.merge(got),
        None => *share = Some(got),
    }
    Ok(())
}

async fn collect(mut body: Body, most: usize) -> Result<Whole, Refusal> {
    let (mut out, mut share, mut room) = (Vec::new(), None, 0);
    loop {
        let frame = tokio::time::timeout(PAUSE, body.frame()).await.map_err(|_| slow())?;
        match frame {
            None => return Ok(Whole { bytes: out.into(), _share: share }),
            Some(Err(_)) => return Err(Refusal::new(Code::Slow, "the body broke off")),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if out.len() + data.len() > most {
                    return Err(too_large(most));
                }
                while room < out.len() + data.len() {
                    more(&mut share).await?;
                    room += (STEP_KIB as usize) << 10;
                }
                out.extend(&data);
            }
        }
    }
}

/// Reads a JSON body.
pub(crate) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Refusal> {
    json_up_to(headers, body, limits::JSON_BYTES).await
}

/// The same, of another length.
pub(crate) async fn json_up_to<T: DeserializeOwned>(headers: &HeaderMap, body: Body, most: usize) -> Result<T, Refusal> {
    let whole = read(headers, body, "application/json", most).await?;
    serde_json::from_slice(&whole.bytes).map_err(|e| Refusal::malformed(format!("the body does not read: {e}")))
}

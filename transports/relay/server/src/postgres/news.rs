//! A word between nodes: which logs grew. It goes beside the transactions, because a word inside one makes all commits wait for each
//! other; a word that gets lost is made good by readers who look by themselves.

use crate::storage::{Heard, StorageError};
use cairn_relay_wire::LogId;
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Words that wait to be sent; more are dropped.
const WAITING: usize = 4_096;
/// Words in one notification: its payload is bounded by the engine at 8,000 bytes.
const TOGETHER: usize = 100;
/// Before a broken connection is made again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const CHANNEL: &str = "cairn_relay";

/// A log, and its end.
pub(super) type Word = (LogId, u64);

/// Where words are put; the other end goes to [`run`].
pub(super) fn channel() -> (mpsc::Sender<Word>, mpsc::Receiver<Word>) {
    mpsc::channel(WAITING)
}

fn words(text: &str) -> impl Iterator<Item = (LogId, u64)> + '_ {
    text.split(' ').filter_map(|word| {
        let (log, seq) = word.split_once(':')?;
        Some((log.parse().ok()?, seq.parse().ok()?))
    })
}

/// Listens and speaks until `out` is closed.
pub(super) async fn run(config: Config, tls: Option<MakeRustlsConnect>, mut out: mpsc::Receiver<(LogId, u64)>, heard: Heard) {
    let heard: Arc<Heard> = Arc::new(heard);
    let mut pause = FIRST_PAUSE;
    while !out.is_closed() {
        if connected(&config, &tls, &mut out, &heard).await.is_ok() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // Readers look by themselves; what was said while nobody could hear it is old by now.
        while out.try_recv().is_ok() {}
    }
}

/// One connection's life: an error when it broke, `Ok` when there is nothing more to say.
async fn connected(
    config: &Config,
    tls: &Option<MakeRustlsConnect>,
    out: &mut mpsc::Receiver<(LogId, u64)>,
    heard: &Arc<Heard>,
) -> Result<(), StorageError> {
    let ended = match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await.map_err(broken)?;
            converse(&client, connection, out, heard.clone()).await
        }
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(broken)?;
            converse(&client, connection, out, heard.clone()).await
        }
    };
    ended.map_err(broken)
}

fn broken(e: tokio_postgres::Error) -> StorageError {
    StorageError::Engine(e.to_string())
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    client: &Client,
    mut connection: Connection<Socket, S>,
    out: &mut mpsc::Receiver<(LogId, u64)>,
    heard: Arc<Heard>,
) -> Result<(), tokio_postgres::Error> {
    let mut reading = tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(said) = message {
                words(said.payload()).for_each(|(log, seq)| heard(log, seq));
            }
        }
    });
    let ended = speak(client, out, &mut reading).await;
    reading.abort();
    ended
}

async fn speak(
    client: &Client,
    out: &mut mpsc::Receiver<(LogId, u64)>,
    reading: &mut tokio::task::JoinHandle<()>,
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("listen {CHANNEL}")).await?;
    let mut words = Vec::with_capacity(TOGETHER);
    loop {
        words.clear();
        tokio::select! {
            count = out.recv_many(&mut words, TOGETHER) => if count == 0 { return Ok(()) },
            // The connection is gone: the next statement says why.
            _ = &mut *reading => return client.batch_execute("select 1").await,
        }
        let newest: BTreeMap<LogId, u64> = words.iter().copied().collect();
        let text: Vec<String> = newest.iter().map(|(log, seq)| format!("{log}:{seq}")).collect();
        client.execute("select pg_notify($1, $2)", &[&CHANNEL, &text.join(" ")]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_others_passed_over() {
        let log = LogId([7; 16]);
        assert_eq!(words(&format!("{log}:12 x:1 {log}:y")).collect::<Vec<_>>(), vec![(log, 12)]);
    }
}

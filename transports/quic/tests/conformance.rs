//! QUIC links on loopback, through the suite every link runs, and what TLS must refuse.

use cairn_contract::{Link, LinkError, conformance::link_suite};
use cairn_model::DeviceId;
use cairn_quic::{Endpoint, Knock, QuicLink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static NONCE: AtomicU64 = AtomicU64::new(1);

fn tag(key: u8, nonce: &[u8; 8]) -> [u8; 16] {
    let mut tag = [key; 16];
    tag[..8].copy_from_slice(nonce);
    tag
}

fn answer(key: u8, nonce: &[u8; 8], device: &DeviceId) -> [u8; 16] {
    let mut answer = tag(key, nonce);
    answer[12..].copy_from_slice(&device.0[..4]);
    answer
}

/// A device that lets in who knows `key`.
fn device(secret: u8, key: u8) -> Endpoint {
    let own = id(secret);
    let door = Arc::new(move |nonce: &[u8; 8], shown: &[u8; 16]| (*shown == tag(key, nonce)).then(|| answer(key, nonce, &own)));
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), &[secret; 32], door).unwrap()
}

fn endpoint(secret: u8) -> Endpoint {
    device(secret, 7)
}

fn id(secret: u8) -> DeviceId {
    DeviceId(ed25519_dalek::SigningKey::from_bytes(&[secret; 32]).verifying_key().to_bytes())
}

fn knock(key: u8) -> Knock {
    let nonce = NONCE.fetch_add(1, Ordering::Relaxed).to_le_bytes();
    Knock { nonce, tag: tag(key, &nonce), answer: Arc::new(move |device| answer(key, &nonce, device)) }
}

async fn connect(a: &Endpoint, b: &Endpoint) -> (QuicLink, QuicLink) {
    let accepting = async { Endpoint::finish(b.accept().await.unwrap()).await };
    let knock = knock(7);
    let (accepted, dialled) = tokio::join!(accepting, a.dial(b.address().unwrap(), None, &knock));
    (dialled.unwrap(), accepted.unwrap())
}

/// Both ends of a dial that should not work.
async fn refused(a: &Endpoint, b: &Endpoint, knock: &Knock) -> (LinkError, LinkError) {
    let accepting = async { Endpoint::finish(b.accept().await.unwrap()).await.err() };
    let (there, here) = tokio::join!(accepting, a.dial(b.address().unwrap(), None, knock));
    (here.err().expect("the dialler is refused"), there.expect("the other end sees it fail"))
}

/// Rows 2, 4 and 5: who cannot prove a project the device knows gets an alert and no certificate.
#[tokio::test]
async fn row_2_a_stranger_is_shown_no_key() {
    let (a, b) = (endpoint(1), endpoint(2));
    let (here, there) = refused(&a, &b, &knock(8)).await;
    assert!(there.to_string().contains("no server certificate chain resolved"), "{there}");
    assert!(here.to_string().contains("the cryptographic handshake failed"), "{here}");
}

/// Row 3: a knock is good once.
#[tokio::test]
async fn row_3_a_replayed_knock_is_refused() {
    let (a, b, thief) = (endpoint(1), endpoint(2), endpoint(3));
    let knock = knock(7);
    let accepting = async { Endpoint::finish(b.accept().await.unwrap()).await };
    let (accepted, dialled) = tokio::join!(accepting, a.dial(b.address().unwrap(), None, &knock));
    assert!(accepted.is_ok() && dialled.is_ok());
    let (_, there) = refused(&thief, &b, &knock).await;
    assert!(there.to_string().contains("no server certificate chain resolved"), "{there}");
}

/// Row 1, the other way round: a device that only pretends to be of the project does not see the dialler's key.
#[tokio::test]
async fn row_1_a_listener_that_does_not_know_the_project_learns_no_device() {
    let a = endpoint(1);
    let door = Arc::new(|_: &[u8; 8], _: &[u8; 16]| Some([0; 16]));
    let fake = Endpoint::bind("127.0.0.1:0".parse().unwrap(), &[9; 32], door).unwrap();
    let (here, there) = refused(&a, &fake, &knock(7)).await;
    assert!(here.to_string().contains("certificate"), "{here}");
    assert!(there.to_string().contains("certificate"), "{there}");
}

#[tokio::test]
async fn quic_links_conform() {
    let (a, b) = (endpoint(1), endpoint(2));
    link_suite(|| connect(&a, &b)).await;
}

#[tokio::test]
async fn another_device_than_the_expected_one_is_refused() {
    let (a, b) = (endpoint(1), endpoint(2));
    let serving = tokio::spawn(async move {
        let address = b.address().unwrap();
        (address, b)
    });
    let (address, b) = serving.await.unwrap();
    let accepting = async { Endpoint::finish(b.accept().await.unwrap()).await.is_err() };
    let own_knock = knock(7);
    let (refused_there, refused_here) = tokio::join!(accepting, a.dial(address, Some(DeviceId([9; 32])), &own_knock));
    assert!(refused_there && refused_here.is_err());
}

#[tokio::test]
async fn ends_know_each_others_device_key() {
    let (a, b) = (endpoint(1), endpoint(2));
    let (dialled, accepted) = connect(&a, &b).await;
    assert_eq!((dialled.info().peer, accepted.info().peer), (id(2), id(1)));
}

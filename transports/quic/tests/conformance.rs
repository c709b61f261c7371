//! QUIC links on loopback, through the suite every link runs, and what TLS must refuse.

use cairn_contract::{Link, conformance::link_suite};
use cairn_model::DeviceId;
use cairn_quic::{Endpoint, QuicLink};

fn endpoint(secret: u8) -> Endpoint {
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), &[secret; 32]).unwrap()
}

async fn connect(a: &Endpoint, b: &Endpoint) -> (QuicLink, QuicLink) {
    let accepting = async { Endpoint::finish(b.accept().await.unwrap()).await };
    let (accepted, dialled) = tokio::join!(accepting, a.dial(b.address().unwrap(), None));
    (dialled.unwrap(), accepted.unwrap())
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
    let (refused_there, refused_here) = tokio::join!(accepting, a.dial(address, Some(DeviceId([9; 32]))));
    assert!(refused_there && refused_here.is_err());
}

#[tokio::test]
async fn ends_know_each_others_device_key() {
    let (a, b) = (endpoint(1), endpoint(2));
    let (dialled, accepted) = connect(&a, &b).await;
    let key = |secret: u8| cairn_model::DeviceId(ed25519_dalek::SigningKey::from_bytes(&[secret; 32]).verifying_key().to_bytes());
    assert_eq!((dialled.info().peer, accepted.info().peer), (key(2), key(1)));
}

//! A cable between a device and what it talks to: it counts what passes, and says when enough has.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Default)]
struct Passed {
    down: AtomicU64,
    up: AtomicU64,
    told: Mutex<()>,
    more: Condvar,
}

/// One cable, on a port of its own, until the test ends.
pub struct Cable {
    /// `IP:PORT` of this end.
    pub address: String,
    passed: Arc<Passed>,
}

fn forward(mut from: TcpStream, mut to: TcpStream, passed: &Passed, count: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        count.fetch_add(len as u64, Ordering::SeqCst);
        drop(passed.told.lock().unwrap_or_else(PoisonError::into_inner));
        passed.more.notify_all();
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // Whoever is at the other end hears that this one is gone; it may be gone itself.
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}

impl Cable {
    /// To this address.
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let passed = Arc::new(Passed::default());
        let (of, target) = (passed.clone(), target.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let (near2, far2) = (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
                let (up, down) = (of.clone(), of.clone());
                std::thread::spawn(move || forward(near, far, &up, &up.up));
                std::thread::spawn(move || forward(far2, near2, &down, &down.down));
            }
        });
        Self { address, passed }
    }

    /// Bytes that came towards the device.
    pub fn down(&self) -> u64 {
        self.passed.down.load(Ordering::SeqCst)
    }

    /// Bytes that it sent.
    pub fn up(&self) -> u64 {
        self.passed.up.load(Ordering::SeqCst)
    }

    /// Returns when so many bytes have passed in both directions, or when `over` says that no more will.
    pub fn wait_until(&self, bytes: u64, mut over: impl FnMut() -> bool) {
        let mut held = self.passed.told.lock().unwrap_or_else(PoisonError::into_inner);
        while self.down() + self.up() < bytes && !over() {
            let look = std::time::Duration::from_millis(20);
            held = self.passed.more.wait_timeout(held, look).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

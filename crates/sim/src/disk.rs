//! A disk that keeps only what was synced.

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Debug, Default)]
struct Image {
    /// What reads see.
    current: Vec<u8>,
    /// What a crash leaves.
    durable: Vec<u8>,
    /// Written since the last sync.
    pending: Vec<(u64, Vec<u8>)>,
    /// Writes and syncs refused from now on.
    refuses: bool,
    /// A negative control: syncs are acknowledged and not done.
    lies: bool,
    /// Incremented at a crash: an old handle can no longer write.
    generation: u32,
}

/// One device's disk; outlives the databases opened on it.
#[derive(Clone, Debug, Default)]
pub struct DiskHandle(Arc<Mutex<Image>>);

/// The storage of one open database on a [`DiskHandle`].
#[derive(Debug)]
pub struct Disk {
    image: Arc<Mutex<Image>>,
    generation: u32,
}

impl DiskHandle {
    /// Storage for one more open.
    pub fn storage(&self) -> Disk {
        let generation = self.0.lock().expect("disk").generation;
        Disk { image: self.0.clone(), generation }
    }

    /// Power is cut: what was not synced is gone, and the database open on it can do nothing more.
    pub fn crash(&self) {
        let mut image = self.0.lock().expect("disk");
        image.current = image.durable.clone();
        image.pending.clear();
        image.refuses = false;
        image.generation += 1;
    }

    /// Makes writes fail, or work again.
    pub fn refuse(&self, refuses: bool) {
        self.0.lock().expect("disk").refuses = refuses;
    }

    /// Makes syncs a lie, to show that the test would notice.
    pub fn lie(&self) {
        self.0.lock().expect("disk").lies = true;
    }

    /// `true` if these bytes would survive a crash now.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        memchr::memmem::find(&self.0.lock().expect("disk").durable, bytes).is_some()
    }

    /// Another disk with the same durable content.
    pub fn copy(&self) -> DiskHandle {
        let durable = self.0.lock().expect("disk").durable.clone();
        DiskHandle(Arc::new(Mutex::new(Image { current: durable.clone(), durable, ..Image::default() })))
    }
}

impl Disk {
    fn with<T>(&self, act: impl FnOnce(&mut Image) -> io::Result<T>) -> io::Result<T> {
        let mut image = self.image.lock().expect("disk");
        if image.generation != self.generation {
            return Err(io::Error::other("the power was cut"));
        }
        act(&mut image)
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the disk is full")
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.with(|i| Ok(i.current.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|i| {
            let at = offset as usize;
            out.copy_from_slice(i.current.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|i| {
            if i.refuses && len > i.current.len() as u64 {
                return Err(full());
            }
            i.current.resize(len as usize, 0);
            i.pending.push((len, Vec::new()));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|i| {
            if i.refuses {
                return Err(full());
            }
            if i.lies {
                return Ok(());
            }
            for (offset, bytes) in std::mem::take(&mut i.pending) {
                if bytes.is_empty() {
                    i.durable.resize(offset as usize, 0);
                } else {
                    let at = offset as usize;
                    i.durable[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|i| {
            if i.refuses {
                return Err(full());
            }
            let at = offset as usize;
            i.current[at..at + data.len()].copy_from_slice(data);
            i.pending.push((offset, data.to_vec()));
            Ok(())
        })
    }
}

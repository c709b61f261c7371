//! Mailboxes that people carry: one bundle file, or a shared folder of such files.
//!
//! # A bundle file, version 1
//!
//! ```text
//! header  64   "\x89cairn\r\n\x1a\n", major 1, minor (2 + 2), handle 16, bundle 16, part 2, parts 2, zeros 6, checksum 8
//! frame   40+n "frm1", length of the chunk (4), its name: BLAKE3 (32), the chunk
//! ...
//! index   48 each: name 32, offset of the frame 8, length 4, kind 1, zeros 3
//! footer  96   "cairnEND", offset of the index 8, number of entries 4, part or 0 4, file length 8, handle 16, bundle 16, hash 32
//! ```
//!
//! Integers are little-endian; lengths and offsets are bytes. The header's checksum is the beginning of the BLAKE3 of what is before
//! it, the footer's hash is the BLAKE3 of the index and the 64 bytes of footer before it. The handle tells members whose project
//! it is. Whoever finds no sound footer walks the frames: each proves itself by its name. A large file grows at its end: new frames,
//! index and footer after the old footer; until the new footer is there, the old one counts. Chunks are sealed; nothing here needs a key.
//!
//! # A shared folder
//!
//! `FOLDER/cairn-<handle>/<writer>/<number>-<random>.cairn`: each device writes only into its own sub-folder, under a temporary name
//! that is then renamed, and never changes a file. `…-to<number>.cairn` holds all that the writer's files up to that number
//! held; those go a day later. Any other file is read if it is a bundle of the project (a conflicted copy) and left alone if not.

mod file;
mod folder;
mod format;
mod io;

pub use file::BundleFile;
pub use folder::Folder;
pub use format::{Header, Summary, summary};

//! CBOR maps with integer keys. Unknown keys from 0 up are skipped; unknown keys below 0 are critical.

use minicbor::bytes::{ByteArray, ByteVec};
use minicbor::{Decoder, data::Type, decode::Error};

/// Bytes and the signature over their hash; each kind hashes under its own context.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Signed {
    #[n(1)]
    pub inner: ByteVec,
    #[n(2)]
    pub signature: ByteArray<64>,
}

/// `true` if the top-level map of `bytes` has a key below 0: hold and forward, do not interpret.
pub(crate) fn has_critical_key(bytes: &[u8]) -> Result<bool, Error> {
    let mut d = Decoder::new(bytes);
    let entries = d.map()?.ok_or_else(|| Error::message("indefinite map"))?;
    let mut critical = false;
    for _ in 0..entries {
        critical |= !matches!(d.datatype()?, Type::U8 | Type::U16 | Type::U32 | Type::U64);
        d.skip()?;
        d.skip()?;
    }
    Ok(critical)
}

/// Writing to memory cannot fail, and our types have no encoders that refuse.
pub(crate) fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("encoding to memory")
}

//! Short codes: six digits that carry an invitation over a channel nobody else can be in (SPAKE2, one guess).

use crate::derive::derive;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use spake2::{Ed25519Group, Identity, Password, Spake2};

/// A code as people read it out: `7-482-193`. The first digit finds the device that shows it, the other six are the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    /// 1 to 9.
    pub nameplate: u8,
    digits: String,
}

/// Why a text is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code is seven digits, such as 7-482-193")]
pub struct CodeError;

impl Code {
    /// From fresh random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        let full = derive("cairn code v1", &[&random]);
        let number = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| full[at + n]));
        Self { nameplate: (number(0) % 9 + 1) as u8, digits: format!("{:06}", number(8) % 1_000_000) }
    }

    /// As typed; blanks and hyphens do not matter.
    pub fn parse(text: &str) -> Result<Self, CodeError> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.')).take(8).collect();
        if digits.len() != 7 || !digits.bytes().all(|b| b.is_ascii_digit()) || digits.starts_with('0') {
            return Err(CodeError);
        }
        Ok(Self { nameplate: digits.as_bytes()[0] - b'0', digits: digits[1..].to_owned() })
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.nameplate, &self.digits[..3], &self.digits[3..])
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Code({}-…)", self.nameplate)
    }
}

/// One side of a pairing, once its message is made.
pub struct Pairing {
    state: Spake2<Ed25519Group>,
}

impl std::fmt::Debug for Pairing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pairing(..)")
    }
}

/// The generator trait of the version that spake2 takes.
struct Old(ChaCha20Rng);

impl rand_core::RngCore for Old {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl rand_core::CryptoRng for Old {}

impl Pairing {
    /// Gives the first message too. `exporter` binds the code to one TLS session: who sits between two sessions has two
    /// different ones. `seed` is fresh.
    pub fn start(code: &Code, exporter: &[u8; 32], seed: [u8; 32]) -> (Self, Vec<u8>) {
        let identity = derive("cairn pairing v1", &[exporter]);
        let rng = Old(ChaCha20Rng::from_seed(seed));
        let password = Password::new(code.digits.as_bytes());
        let (state, message) = Spake2::<Ed25519Group>::start_symmetric_with_rng(&password, &Identity::new(&identity), rng);
        (Self { state }, message)
    }

    /// Proofs of the common key: the guest's, then the host's. `None` if the message is none.
    pub fn finish(self, message: &[u8]) -> Option<([u8; 32], [u8; 32])> {
        let key = self.state.finish(message).ok()?;
        Some((derive("cairn pairing guest v1", &[&key]), derive("cairn pairing host v1", &[&key])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        let code = Code::new([5; 16]);
        let text = code.to_string();
        for typed in [text.clone(), text.replace('-', " "), text.replace('-', ""), format!(" {text} ")] {
            assert_eq!(Code::parse(&typed), Ok(code.clone()), "{typed}");
        }
        for bad in ["", "7-48-19", "7-482-1934", "0-123-456", "a-bcd-efg", "cairn1abc"] {
            assert_eq!(Code::parse(bad), Err(CodeError), "{bad}");
        }
    }

    /// Attack row 7: a man in the middle runs two channels, so that even the right code gives two different keys.
    #[test]
    fn row_7_only_the_same_code_on_the_same_channel_agrees() {
        let (code, other) = (Code::parse("7-482-193").unwrap(), Code::parse("7-482-194").unwrap());
        let pair = |a: &Code, b: &Code, at_a: [u8; 32], at_b: [u8; 32]| {
            let (guest, from_guest) = Pairing::start(a, &at_a, [1; 32]);
            let (host, from_host) = Pairing::start(b, &at_b, [2; 32]);
            (guest.finish(&from_host), host.finish(&from_guest))
        };
        let (a, b) = pair(&code, &code, [9; 32], [9; 32]);
        assert!(a.is_some() && a == b);
        let (a, b) = pair(&code, &other, [9; 32], [9; 32]);
        assert_ne!(a, b);
        let (a, b) = pair(&code, &code, [9; 32], [8; 32]);
        assert_ne!(a, b);
    }
}

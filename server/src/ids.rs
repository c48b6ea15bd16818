//! Ids of messages and jobs: 32 lowercase hex digits, 16 random bytes.

/// A generator seeded once by the system: unique ids without a system call each. Not for secrets.
#[derive(Debug)]
pub struct Ids {
    state: [u64; 4],
}

/// An id as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id([u8; 32]);

impl Id {
    /// The 32 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Ids {
    /// A generator with a seed of its own.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut state = [0; 4];
        for word in &mut state {
            *word = getrandom::u64()?;
        }
        // The one state that the generator never leaves.
        if state == [0; 4] {
            state[0] = 1;
        }
        Ok(Self { state })
    }

    /// The next id.
    pub fn next_id(&mut self) -> Id {
        let (high, low) = (self.next_u64(), self.next_u64());
        let mut digits = [0; 32];
        for (pair, byte) in
            digits.chunks_exact_mut(2).zip(high.to_be_bytes().into_iter().chain(low.to_be_bytes()))
        {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        Id(digits)
    }

    /// xoshiro256++ (Blackman and Vigna).
    fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_lowercase_hex_digits_and_differ() {
        let mut ids = Ids::new().unwrap();
        let many: std::collections::HashSet<Id> = (0..10_000).map(|_| ids.next_id()).collect();
        assert_eq!(many.len(), 10_000);
        assert!(many.iter().all(|id| id.as_str().len() == 32));
        assert!(
            many.iter()
                .all(|id| id.as_str().bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)))
        );
    }
}

//! Reads choices out of the bytes of an input. At its end every choice is zero.

/// What is left of an input.
#[derive(Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `n` bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Bytes whose number comes first.
    pub fn bytes(&mut self) -> &'a [u8] {
        let n = self.u8();
        self.take(n.into())
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.take(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    /// A number that is mostly small or next to a border, sometimes any.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            kind @ 0..=199 => u64::from(kind),
            kind @ 200..=230 => (1u64 << (2 * (kind - 199))).wrapping_sub(u64::from(self.u8() % 3)),
            231..=235 => (i64::MAX as u64).wrapping_add(u64::from(self.u8() % 3)),
            236..=240 => 0u64.wrapping_sub(u64::from(self.u8())),
            241..=247 => self.u32().into(),
            248..=255 => self.u64(),
        }
    }
}

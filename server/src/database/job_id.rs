//! Job ids: a secret permutation of job numbers.
//!
//! An id must tell nothing and be found fast. AES over (tag, job number) with a key drawn once for
//! the database gives ids that look like 16 random bytes, never repeat, and lead back to the row
//! without an index: a random index would dirty one more page for every job of a large backlog.
//! Text that is not an id made with this key leads nowhere: the tag does not match.

use aes::{
    Aes128,
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};

use super::job::JobNumber;

/// Says "this block is a job id": what a guessed or foreign id does not decrypt to.
const TAG: u64 = u64::from_be_bytes(*b"flow-job");

/// Turns job numbers into ids and back.
#[derive(Clone)]
pub(super) struct JobIds(Aes128);

impl JobIds {
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self(Aes128::new(&Array::from(key)))
    }

    /// The id, 32 lowercase hex digits.
    pub(super) fn text(&self, job: JobNumber) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut block = Array::from(((u128::from(TAG) << 64) | job.get() as u128).to_be_bytes());
        self.0.encrypt_block(&mut block);
        let mut text = String::with_capacity(32);
        for byte in block {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// The job an id belongs to; `None` when no job ever had it.
    pub(super) fn job(&self, id: &str) -> Option<JobNumber> {
        let digits: &[u8; 32] = id.as_bytes().try_into().ok()?;
        let mut bytes = [0_u8; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let mut block = Array::from(bytes);
        self.0.decrypt_block(&mut block);
        let plain = u128::from_be_bytes(block.into());
        if (plain >> 64) as u64 != TAG {
            return None;
        }
        JobNumber::from_stored(plain as u64 as i64)
    }
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_job_and_no_other_text_leads_anywhere() {
        let ids = JobIds::new([7; 16]);
        let job = JobNumber::new(3, 41).unwrap();
        let id = ids.text(job);
        assert_eq!(id.len(), 32);
        assert_eq!(ids.job(&id), Some(job));
        assert_ne!(ids.text(JobNumber::new(3, 42).unwrap()), id);
        assert_eq!(JobIds::new([8; 16]).job(&id), None);
        for wrong in ["", "nonsense", &id.to_uppercase(), &format!("{id}0"), &"0".repeat(32), &id[1..]] {
            if wrong != id {
                assert_eq!(ids.job(wrong), None, "{wrong:?}");
            }
        }
    }
}

//! How much one transaction may still do, where time alone gives it work without a bound.

/// The bodies that it reads or moves, in bytes; the last one may pass it.
const BYTES: usize = 8 << 20;

/// What is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub jobs: usize,
    bytes: usize,
}

impl Allowance {
    pub(super) fn of(jobs: usize) -> Self {
        Self { jobs, bytes: BYTES }
    }

    pub(super) fn spend(&mut self, jobs: usize, bytes: usize) {
        self.jobs = self.jobs.saturating_sub(jobs);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.jobs == 0 || self.bytes == 0
    }
}

//! Retry policies: how often a job is delivered, and when it is tried again.

use crate::client::{Error, Result, RetryPolicy, Status};

/// When a job that failed is tried again. FLOWMESH_RETRY_POLICY_INIT is the default policy: 3
/// deliveries, 1 s and 2 s apart, then the dead-letter queue.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct flowmesh_retry_policy_t {
    /// sizeof(flowmesh_retry_policy_t).
    pub size: usize,
    /// Deliveries before a job is dead-lettered, 0 for no limit.
    pub max_attempts: i32,
    /// How the backoff grows, a FLOWMESH_BACKOFF constant.
    pub backoff_strategy: flowmesh_backoff_t,
    /// Backoff after the first delivery; above 0.
    pub initial_backoff_ms: i64,
    /// Longest backoff; from initial_backoff_ms to a year.
    pub max_backoff_ms: i64,
    /// Factor of FLOWMESH_BACKOFF_EXPONENTIAL; above 0 for every strategy.
    pub backoff_multiplier: f64,
}

/// How the backoff grows with the number n of deliveries.
pub type flowmesh_backoff_t = i32;

/// initial_backoff_ms each time.
pub const FLOWMESH_BACKOFF_FIXED: i32 = 1;
/// initial_backoff_ms times n.
pub const FLOWMESH_BACKOFF_LINEAR: i32 = 2;
/// initial_backoff_ms times backoff_multiplier to the power of n-1.
pub const FLOWMESH_BACKOFF_EXPONENTIAL: i32 = 3;

const STRATEGIES: [(flowmesh_backoff_t, &str); 3] = [
    (FLOWMESH_BACKOFF_FIXED, "fixed"),
    (FLOWMESH_BACKOFF_LINEAR, "linear"),
    (FLOWMESH_BACKOFF_EXPONENTIAL, "exponential"),
];

impl flowmesh_retry_policy_t {
    /// The policy on the wire. Its rules are checked here, where the fields have
    /// their names in C.
    pub(super) fn check(&self) -> Result<RetryPolicy> {
        const YEAR_MS: i64 = 31_536_000_000;

        let rule = |holds: bool, rule: &str| {
            if holds { Ok(()) } else { Err(Error::invalid(format!("policy->{rule}"))) }
        };
        rule(self.max_attempts >= 0, "max_attempts must not be negative")?;
        rule(self.initial_backoff_ms > 0, "initial_backoff_ms must be above 0")?;
        rule(
            (self.initial_backoff_ms..=YEAR_MS).contains(&self.max_backoff_ms),
            "max_backoff_ms must be from initial_backoff_ms to 31536000000 (1 year)",
        )?;
        rule(
            self.backoff_multiplier > 0.0 && self.backoff_multiplier.is_finite(),
            "backoff_multiplier must be a number above 0",
        )?;
        let strategy = STRATEGIES.iter().find(|(value, _)| *value == self.backoff_strategy);
        rule(strategy.is_some(), "backoff_strategy must be a FLOWMESH_BACKOFF constant")?;
        let ceil_seconds = |ms: i64| ms / 1000 + i64::from(ms % 1000 > 0);
        Ok(RetryPolicy {
            max_attempts: self.max_attempts,
            initial_backoff_seconds: ceil_seconds(self.initial_backoff_ms),
            max_backoff_seconds: ceil_seconds(self.max_backoff_ms),
            backoff_multiplier: self.backoff_multiplier,
            backoff_strategy: strategy.map(|(_, name)| (*name).to_owned()).unwrap_or_default(),
        })
    }

    /// What C sees of a policy.
    pub(super) fn of(policy: &RetryPolicy) -> Result<Self> {
        let strategy = STRATEGIES.iter().find(|(_, name)| *name == policy.backoff_strategy);
        let Some((strategy, _)) = strategy else {
            let message = format!(
                "the server has a backoff strategy {:?}, which nobody knows",
                policy.backoff_strategy
            );
            return Err(Error::local(Status::INTERNAL, message));
        };
        Ok(Self {
            size: size_of::<Self>(),
            max_attempts: policy.max_attempts,
            backoff_strategy: *strategy,
            initial_backoff_ms: policy.initial_backoff_seconds.saturating_mul(1000),
            max_backoff_ms: policy.max_backoff_seconds.saturating_mul(1000),
            backoff_multiplier: policy.backoff_multiplier,
        })
    }
}

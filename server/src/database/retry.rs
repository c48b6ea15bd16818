//! Retry policies: the default and the backoff.

use flowmesh_proto::v1::RetryPolicy;

use crate::clock::SECOND_NS;

/// The policy of a queue that has none of its own.
pub(super) fn default_policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        initial_backoff_seconds: 1,
        max_backoff_seconds: 60,
        backoff_multiplier: 2.0,
        backoff_strategy: "exponential".to_owned(),
    }
}

/// Whether a job that was delivered `attempts` times gets no further delivery.
pub(super) fn exhausted(policy: &RetryPolicy, attempts: i64) -> bool {
    policy.max_attempts > 0 && attempts >= i64::from(policy.max_attempts)
}

/// Nanoseconds between the end of delivery number `attempts` and the next one.
pub(super) fn backoff_ns(policy: &RetryPolicy, attempts: i64) -> i64 {
    let initial = policy.initial_backoff_seconds.saturating_mul(SECOND_NS);
    let longest = policy.max_backoff_seconds.saturating_mul(SECOND_NS);
    let wait = match policy.backoff_strategy.as_str() {
        "linear" => initial.saturating_mul(attempts),
        "exponential" => {
            let exponent = attempts.saturating_sub(1).max(0) as f64;
            // `as` saturates, infinity included; 0 x infinity cannot arise: initial > 0.
            (initial as f64 * policy.backoff_multiplier.powf(exponent)) as i64
        }
        _ => initial,
    };
    wait.clamp(0, longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(strategy: &str, initial: i64, max: i64, multiplier: f64) -> RetryPolicy {
        RetryPolicy {
            max_attempts: 0,
            initial_backoff_seconds: initial,
            max_backoff_seconds: max,
            backoff_multiplier: multiplier,
            backoff_strategy: strategy.to_owned(),
        }
    }

    #[test]
    fn backoff_follows_its_strategy_is_capped_and_not_rounded() {
        let seconds = |p: &RetryPolicy, n| backoff_ns(p, n) as f64 / SECOND_NS as f64;
        let fixed = policy("fixed", 5, 60, 9.0);
        assert_eq!([seconds(&fixed, 1), seconds(&fixed, 100)], [5.0, 5.0]);
        let linear = policy("linear", 5, 60, 9.0);
        assert_eq!([seconds(&linear, 1), seconds(&linear, 3), seconds(&linear, 13)], [5.0, 15.0, 60.0]);
        let exponential = policy("exponential", 1, 60, 1.5);
        assert_eq!([seconds(&exponential, 1), seconds(&exponential, 3)], [1.0, 2.25]);
        assert_eq!(seconds(&exponential, 1_000_000), 60.0);
        assert_eq!(seconds(&policy("exponential", 1, 60, 0.5), 2), 0.5);
        assert_eq!(
            backoff_ns(&policy("linear", 31_536_000, 31_536_000, 1.0), i64::MAX),
            31_536_000 * SECOND_NS
        );
    }

    #[test]
    fn the_default_policy_allows_three_deliveries() {
        let default = default_policy();
        assert_eq!([1, 2, 3].map(|n| exhausted(&default, n)), [false, false, true]);
        assert_eq!([1, 2].map(|n| backoff_ns(&default, n)), [SECOND_NS, 2 * SECOND_NS]);
        assert!(!exhausted(&policy("fixed", 1, 1, 1.0), i64::MAX));
    }
}

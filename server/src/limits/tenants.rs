//! What waits, by tenant: subscriptions and long polls. A tenant that has as many as it may is
//! refused more of them; nobody else notices.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tonic::Status;

use super::exhausted;
use crate::resource::ResourceName;

/// Counters by tenant. The tenant is that of the resource: where there are tokens, the permission
/// was checked before.
pub struct Tenants {
    subscriptions: Counter,
    waiters: Counter,
}

struct Counter {
    what: &'static str,
    flag: &'static str,
    max: usize,
    /// Tenants that have none are not in it.
    taken: Taken,
}

/// How many each tenant has.
type Taken = Arc<Mutex<HashMap<Arc<str>, usize>>>;

/// Held as long as the call waits. Of nothing, where there is no limit.
pub struct Seat(Option<(Taken, Arc<str>)>);

impl Tenants {
    pub fn new(max_subscriptions: usize, max_waiters: usize) -> Self {
        let counter = |what, flag, max| Counter { what, flag, max, taken: Arc::default() };
        Self {
            subscriptions: counter("subscriptions", "--max-subscriptions", max_subscriptions),
            waiters: counter("long polls", "--max-waiters", max_waiters),
        }
    }

    /// Inside one process nobody has to be kept from another.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }

    /// For a subscription to a stream.
    pub fn subscription(&self, stream: &ResourceName) -> Result<Seat, Status> {
        self.subscriptions.take(stream)
    }

    /// For a call that waits for a job of a queue, if it comes to that.
    pub fn waiter(&self, queue: &ResourceName) -> Result<Seat, Status> {
        self.waiters.take(queue)
    }
}

impl Counter {
    fn take(&self, resource: &ResourceName) -> Result<Seat, Status> {
        if self.max == usize::MAX {
            return Ok(Seat(None));
        }
        let (tenant, _) = resource.tenant_and_namespace();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = match taken.get_key_value(tenant) {
            Some((_, &n)) if n >= self.max => {
                let what = format_args!("the tenant {tenant} has too many {}", self.what);
                return Err(exhausted(what, self.flag, self.max));
            }
            Some((tenant, _)) => tenant.clone(),
            None => tenant.into(),
        };
        *taken.entry(tenant.clone()).or_default() += 1;
        Ok(Seat(Some((self.taken.clone(), tenant))))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((taken, tenant)) = self.0.take() else { return };
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = taken.get_mut(&tenant) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::ResourceKind::Stream;

    #[test]
    fn a_tenant_at_its_limit_is_refused_and_another_is_not() {
        let tenants = Tenants::new(2, 1);
        let stream = |tenant: &str| ResourceName::new(tenant, "n", Stream, "x");
        let first = tenants.subscription(&stream("a")).ok().unwrap();
        let _second = tenants.subscription(&stream("a")).ok().unwrap();
        let refusal = tenants.subscription(&stream("a")).err().unwrap();
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
        assert_eq!(
            refusal.message(),
            "the tenant a has too many subscriptions: the limit of the server is 2 (--max-subscriptions)"
        );
        let _other = tenants.subscription(&stream("b")).ok().unwrap();
        let _waits = tenants.waiter(&stream("a")).ok().unwrap();
        drop(first);
        let _again = tenants.subscription(&stream("a")).ok().unwrap();
    }

    #[test]
    fn tenants_that_hold_nothing_are_forgotten() {
        let tenants = Tenants::new(1, 1);
        for n in 0..100 {
            let name = ResourceName::new(&n.to_string(), "n", Stream, "x");
            drop(tenants.subscription(&name));
        }
        assert!(tenants.subscriptions.taken.lock().unwrap().is_empty());
    }
}

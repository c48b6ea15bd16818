//! How many of one kind a tenant has: streams, queues, stores, consumer groups. They are made by
//! their first use and stay, in memory or in the data directory: a loop over names must not fill the
//! machine.

use std::collections::HashMap;

use crate::{
    error::{Error, ErrorKind, Result},
    resource::ResourceName,
};

/// What there is of one kind, counted by tenant. Where there is no limit, nothing is counted.
#[derive(Debug)]
pub struct Census {
    what: &'static str,
    flag: &'static str,
    max: usize,
    by_tenant: HashMap<Box<str>, usize>,
}

impl Census {
    /// Of resources, `what` in the plural, with at most `max` per tenant.
    pub fn new(what: &'static str, max: usize) -> Self {
        Self { what, flag: "--max-resources", max, by_tenant: HashMap::new() }
    }

    /// Of consumer groups, with at most `max` per tenant; each counts once for every stream that it
    /// has a commit of.
    pub fn of_groups(max: usize) -> Self {
        Self { what: "consumer groups", flag: "--max-groups", max, by_tenant: HashMap::new() }
    }

    /// Counts one that is there.
    pub fn count(&mut self, name: &ResourceName) {
        self.count_many(name, 1);
    }

    /// Counts `n` that are there.
    pub fn count_many(&mut self, name: &ResourceName, n: usize) {
        if !self.is_limited() {
            return;
        }
        let tenant = name.tenant_and_namespace().0;
        match self.by_tenant.get_mut(tenant) {
            Some(there) => *there = there.saturating_add(n),
            None => drop(self.by_tenant.insert(tenant.into(), n)),
        }
    }

    /// One that was counted is gone.
    pub fn forget(&mut self, name: &ResourceName) {
        let tenant = name.tenant_and_namespace().0;
        if let Some(there) = self.by_tenant.get_mut(tenant) {
            *there = there.saturating_sub(1);
            if *there == 0 {
                self.by_tenant.remove(tenant);
            }
        }
    }

    /// Begins to count anew.
    pub fn clear(&mut self) {
        self.by_tenant.clear();
    }

    /// Counts anew.
    pub fn recount<'a>(&mut self, names: impl Iterator<Item = &'a ResourceName>) {
        self.clear();
        names.for_each(|name| self.count(name));
    }

    /// Whether anything is counted.
    pub fn is_limited(&self) -> bool {
        self.max != usize::MAX
    }

    /// Whether one more may be made for the tenant of `name`, beside `uncounted` others.
    pub fn admit(&self, name: &ResourceName, uncounted: usize) -> Result<()> {
        let tenant = name.tenant_and_namespace().0;
        let there = self.by_tenant.get(tenant).copied().unwrap_or(0).saturating_add(uncounted);
        if there < self.max {
            return Ok(());
        }
        let text = format!(
            "the tenant {tenant} has too many {}: the limit of the server is {} ({})",
            self.what, self.max, self.flag
        );
        Err(Error::new(ErrorKind::ResourceExhausted, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::ResourceKind::Stream;

    fn stream(tenant: &str) -> ResourceName {
        ResourceName::new(tenant, "n", Stream, "x")
    }

    #[test]
    fn a_tenant_at_its_limit_is_refused_and_another_is_not() {
        let mut groups = Census::of_groups(3);
        groups.count_many(&stream("a"), 2);
        groups.admit(&stream("a"), 0).unwrap();
        let refusal = groups.admit(&stream("a"), 1).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(
            refusal.message(),
            "the tenant a has too many consumer groups: the limit of the server is 3 (--max-groups)"
        );
        groups.count(&stream("a"));
        groups.admit(&stream("a"), 0).unwrap_err();
        groups.admit(&stream("b"), 0).unwrap();
        groups.forget(&stream("a"));
        groups.admit(&stream("a"), 0).unwrap();
    }

    #[test]
    fn tenants_that_have_nothing_are_forgotten() {
        let mut streams = Census::new("streams", 1);
        for tenant in 0..100 {
            streams.count(&stream(&tenant.to_string()));
            streams.forget(&stream(&tenant.to_string()));
            streams.forget(&stream(&tenant.to_string()));
        }
        assert!(streams.by_tenant.is_empty());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut streams = Census::new("streams", usize::MAX);
        streams.count_many(&stream("a"), usize::MAX);
        assert!(streams.by_tenant.is_empty());
        streams.admit(&stream("a"), usize::MAX - 1).unwrap();
    }
}

//! How many streams, queues or stores a tenant has. They stay for ever, each in memory and in the
//! data directory, and are made by their first use: a loop over names must not fill the machine.

use std::collections::HashMap;

use crate::{
    error::{Error, ErrorKind, Result},
    resource::ResourceName,
};

/// The resources of one kind, counted by tenant. Where there is no limit, nothing is counted.
#[derive(Debug)]
pub struct Census {
    what: &'static str,
    max: usize,
    by_tenant: HashMap<Box<str>, usize>,
}

impl Census {
    /// Of `what` (a plural), with at most `max` per tenant.
    pub fn new(what: &'static str, max: usize) -> Self {
        Self { what, max, by_tenant: HashMap::new() }
    }

    /// Counts one that is there.
    pub fn count(&mut self, name: &ResourceName) {
        if self.max == usize::MAX {
            return;
        }
        let tenant = name.tenant_and_namespace().0;
        match self.by_tenant.get_mut(tenant) {
            Some(n) => *n += 1,
            None => drop(self.by_tenant.insert(tenant.into(), 1)),
        }
    }

    /// Counts anew.
    pub fn recount<'a>(&mut self, names: impl Iterator<Item = &'a ResourceName>) {
        self.by_tenant.clear();
        names.for_each(|name| self.count(name));
    }

    /// Whether one more may be made for the tenant of `name`, beside `uncounted` others.
    pub fn admit(&self, name: &ResourceName, uncounted: usize) -> Result<()> {
        let tenant = name.tenant_and_namespace().0;
        let there = self.by_tenant.get(tenant).copied().unwrap_or(0).saturating_add(uncounted);
        if there < self.max {
            return Ok(());
        }
        let text = format!(
            "the tenant {tenant} has too many {}: the limit of the server is {} (--max-resources)",
            self.what, self.max
        );
        Err(Error::new(ErrorKind::ResourceExhausted, text))
    }
}

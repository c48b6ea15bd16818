//! What stands around the driver and the dispatchers: a generation that never ends by itself.

pub(crate) mod dispatcher;
pub(crate) mod driver;
mod locks;
pub(crate) mod park;
mod spin;

pub(crate) use dispatcher::{Dispatcher, Once};
pub(crate) use driver::Driver;
pub(crate) use locks::{lock, wait_until};

use crate::{
    client::{Error, Result},
    sync::Arc,
};

/// The driver and the default dispatcher.
pub(crate) struct Generation {
    driver: Option<Driver>,
    dispatcher: Option<Dispatcher>,
}

impl Generation {
    pub fn new(driver: Option<Driver>, dispatcher: Option<Dispatcher>) -> Arc<Self> {
        Arc::new(Self { driver, dispatcher })
    }

    pub fn check_process(&self) -> Result<()> {
        Ok(())
    }

    pub fn driver_if_started(&self) -> Option<&Driver> {
        self.driver.as_ref()
    }

    pub fn dispatcher(&self) -> Result<&Dispatcher> {
        self.dispatcher.as_ref().ok_or(Error)
    }
}

pub(crate) fn shut_down() -> Error {
    Error
}

/// See the library's; there are no forks here.
pub(crate) struct OwnedByProcess<T>(T);

impl<T> OwnedByProcess<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    pub fn get(&self) -> &T {
        &self.0
    }

    pub fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }

    pub fn is_own(&self) -> bool {
        true
    }
}

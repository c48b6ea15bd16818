//! Nobody looks for a reply here: looking ends by time, which stands still while anybody runs.

pub(crate) struct Spin(());

impl Spin {
    pub fn new() -> Self {
        Self(())
    }

    pub async fn watch<F: Future>(&self, future: F) -> F::Output {
        future.await
    }
}

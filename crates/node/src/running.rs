//! A task that ends when nobody holds it.

use tokio::task::JoinHandle;

/// Ends its task when it is dropped.
pub(crate) struct Running(JoinHandle<()>);

impl Running {
    pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

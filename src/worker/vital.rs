//! The tasks without which a worker must not look like one that serves.
//!
//! None of them ends by itself. `thread` ends the worker once one has, by its name and the reason.

use std::collections::HashMap;
use std::io;

use tokio::task::{Id, JoinSet};

/// The tasks by their names; they end with it.
#[derive(Debug, Default)]
pub(super) struct Vital {
    tasks: JoinSet<io::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Vital {
    /// `name` is what the worker has lost when the task is over.
    pub(super) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = io::Result<()>> + 'static,
    ) {
        let id = self.tasks.spawn_local(task).id();
        self.names.insert(id, name);
    }

    /// Waits until one is over: never, if all is well.
    pub(super) async fn loss(&mut self) -> io::Error {
        let (id, why) = match self.tasks.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, Ok(())))) => (id, "it ended".to_owned()),
            Some(Ok((id, Err(error)))) => (id, error.to_string()),
            Some(Err(error)) => (error.id(), error.to_string()),
        };
        lost(self.names.get(&id).copied().unwrap_or("a task"), &why)
    }
}

/// What the log says of a worker that ends for want of something.
pub(super) fn lost(what: &str, why: &str) -> io::Error {
    io::Error::other(format!("the worker has lost {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    /// What the loss of the second of three is called.
    fn loss_of(task: impl Future<Output = io::Result<()>> + 'static) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = LocalSet::new().block_on(&runtime, async {
            let mut vital = Vital::default();
            vital.spawn("its timers", std::future::pending());
            vital.spawn("its turns", task);
            vital.spawn("its ring", std::future::pending());
            vital.loss().await
        });
        error.to_string()
    }

    #[test]
    fn the_loss_is_called_by_its_name_and_reason() {
        let failed = loss_of(async { Err(io::Error::other("no descriptor is left")) });
        assert_eq!(failed, "the worker has lost its turns: no descriptor is left");
        assert_eq!(loss_of(async { Ok(()) }), "the worker has lost its turns: it ended");
        let panicked = loss_of(async { panic!("not again") });
        assert!(panicked.starts_with("the worker has lost its turns: task "), "{panicked}");
        assert!(panicked.contains("panicked"), "{panicked}");
    }
}

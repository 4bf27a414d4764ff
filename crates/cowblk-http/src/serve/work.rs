//! Work: what the daemon does unasked.

use crate::app::Shared;
use crate::flows::snapshot::complain;
use std::time::Duration;

/// How long snapshots that come together are waited for, so that one checkpoint counts them all.
const GATHER_TIME: Duration = Duration::from_millis(5);

/// Counts new snapshots: a checkpoint behind each wave of them.
pub(super) async fn settle_all(app: Shared) {
    loop {
        app.unsettled.notified().await;
        tokio::time::sleep(GATHER_TIME).await;
        let waiting = std::mem::take(&mut *app.uncounted.lock());
        match app.engine.run(|store| Ok(store.checkpoint()?)).await {
            Ok(()) => waiting
                .into_iter()
                .for_each(|(server, id)| app.tell("snapshot.completed", Some(server), Some(id))),
            Err(refusal) => complain(&refusal),
        }
    }
}

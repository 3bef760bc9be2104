//! The load on every contestant that has calls: one task that asks again and again, or a task for each call in flight.
//!
//! One piece of code for ours and for all peers, so that they differ in nothing but what a call is.

use std::time::Instant;

use anyhow::Context as _;

use super::{Load, Run};
use crate::stats::nanos;

/// A client, cloned for each task as its users would.
pub(super) trait Caller: Clone + Send + 'static {
    /// Sends the payload that it was made with and waits for the answer.
    fn call(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Puts the load on a server. Needs a current-thread runtime.
pub(super) async fn drive(mut caller: impl Caller, load: Load, calls: u64) -> anyhow::Result<Run> {
    let mut run = Run::default();
    let started = Instant::now();
    if load.in_flight == 1 {
        for _ in 0..calls {
            let asked = Instant::now();
            caller.call().await?;
            run.latencies_ns.push(nanos(asked.elapsed()));
        }
    } else {
        let calls = calls / load.in_flight as u64;
        let each = || {
            let mut caller = caller.clone();
            async move {
                for _ in 0..calls {
                    caller.call().await?;
                }
                anyhow::Ok(())
            }
        };
        let tasks: Vec<_> = (0..load.in_flight).map(|_| tokio::spawn(each())).collect();
        for task in tasks {
            task.await.context("a caller panicked")??;
        }
    }
    run.elapsed = started.elapsed();
    Ok(run)
}

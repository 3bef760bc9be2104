//! A server that tells its clients what happens, and what becomes of a client that does not listen.
//!
//! `cargo run -p shellkeep-transport --example pushes`
#![allow(clippy::print_stdout)] // an example shows something

use std::ops::RangeInclusive;

use shellkeep_transport::{
    CancellationToken, ConnectOptions, Context, DownReason, Event, Handler, Protocol, ReconnectPolicy, RpcServer,
    ServerOptions, connect_unix_lazy, socket,
};

enum Ticker {}

impl Protocol for Ticker {
    /// How many ticks are wanted.
    type Request = u64;
    /// How many of them were enqueued.
    type Response = u64;
    /// One tick.
    type Push = u64;
    const NAME: [u8; 4] = *b"tick";
    const VERSIONS: RangeInclusive<u16> = 1..=1;
}

struct Ticking;

impl Handler<Ticker> for Ticking {
    type Connection = ();

    fn on_connect(&self, _: &Context<Ticker>) {}

    async fn call(&self, context: &Context<Ticker>, (): &(), wanted: u64) -> u64 {
        // A pusher never blocks, and may be kept and used by any thread: when the connection has gone it says so.
        let pusher = context.pusher();
        (0..wanted).take_while(|tick| pusher.push(tick).is_ok()).count() as u64
    }

    fn on_disconnect(&self, _: &Context<Ticker>, (): ()) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let home = tempfile::tempdir()?;
    let run = home.path().join("run");
    socket::create_private_dir(&run)?;
    let path = run.join("ticker.sock");
    let stop = CancellationToken::new();
    let serving = RpcServer::serve([socket::bind(&path)?], Ticking, ServerOptions::default(), stop.clone());
    let serving = tokio::spawn(serving);

    let connect = ConnectOptions { events_max: 8, ..ConnectOptions::default() };
    let policy = ReconnectPolicy { connect, ..ReconnectPolicy::default() };
    let client = connect_unix_lazy::<Ticker, _, _>(&path, policy, |_| async { Ok(()) });
    let mut events = client.events();
    client.state().wait_for(shellkeep_transport::State::is_connected).await?;

    println!("3 ticks, and all of them in order:");
    println!("  answered: {}", client.call(3).await?.response);
    for _ in 0..4 {
        println!("  {:?}", events.next().await);
    }

    println!("100 ticks for a consumer with room for 8:");
    println!("  the call ends all the same: {:?}", client.call(100).await.map(|answer| answer.response));
    while let Some(event) = events.next().await {
        println!("  {event:?}");
        if matches!(event, Event::Down { reason: DownReason::EventsFull, .. }) {
            break;
        }
    }
    println!("and it is back by itself: {:?}", events.next().await);
    client.close().await;
    stop.cancel();
    serving.await??;
    Ok(())
}

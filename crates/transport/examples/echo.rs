//! A server that is restarted under its client: calls fail meanwhile, and work again by themselves.
//!
//! `cargo run -p shellkeep-transport --example echo`
#![allow(clippy::print_stdout)] // an example shows something

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use shellkeep_transport::{
    CancellationToken, Connection, Context, Event, Handler, OnReconnectError, Protocol, ReconnectPolicy, RpcClient,
    RpcServer, ServerOptions, connect_unix_lazy, socket,
};
use tokio::task::JoinHandle;

enum Echo {}

impl Protocol for Echo {
    type Request = String;
    type Response = String;
    type Push = ();
    const NAME: [u8; 4] = *b"echo";
    const VERSIONS: RangeInclusive<u16> = 1..=1;
}

struct Shouter;

impl Handler<Echo> for Shouter {
    type Connection = ();

    fn on_connect(&self, context: &Context<Echo>) {
        println!("  server: connection {} of {:?}", context.connection(), context.peer());
    }

    async fn call(&self, _: &Context<Echo>, (): &(), said: String) -> String {
        said.to_uppercase()
    }

    fn on_disconnect(&self, context: &Context<Echo>, (): ()) {
        println!("  server: connection {} has ended", context.connection());
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn serve(path: &Path) -> Result<(CancellationToken, JoinHandle<std::io::Result<usize>>), Failure> {
    let stop = CancellationToken::new();
    let serving = RpcServer::serve([socket::bind(path)?], Shouter, ServerOptions::default(), stop.clone());
    Ok((stop, tokio::spawn(serving)))
}

async fn introduce(connection: Connection<Echo>) -> Result<(), OnReconnectError> {
    let answer = connection.call("hello again".into()).await?;
    println!("  client: on_reconnect on connection {}: {}", connection.generation(), answer.response);
    Ok(())
}

async fn say(client: &RpcClient<Echo>, what: &str) {
    match client.call(what.into()).await {
        Ok(answer) => println!("{what:?} -> {:?} (connection {})", answer.response, answer.generation),
        Err(error) => println!("{what:?} failed: {error}; executed: {:?}", error.executed()),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let home = tempfile::tempdir()?;
    let run = home.path().join("run");
    socket::create_private_dir(&run)?;
    let path = run.join("echo.sock");

    let client = connect_unix_lazy(&path, ReconnectPolicy::default(), introduce);
    let mut events = client.events();
    say(&client, "nobody is there yet").await;
    for life in ["first", "second", "third"] {
        let (stop, serving) = serve(&path)?;
        while let Some(event) = events.next().await {
            println!("  client: {event:?}");
            if matches!(event, Event::Up { .. }) {
                break;
            }
        }
        say(&client, &format!("to the {life} server")).await;
        stop.cancel();
        let left = serving.await??;
        println!("  server: stopped, {left} tasks left");
        client.state().wait_for(|state| !state.is_connected()).await?;
        say(&client, "between two servers").await;
    }
    tokio::time::timeout(Duration::from_secs(3), client.close()).await?;
    Ok(())
}

//! The reference server of the protocol's authors, from npm, over both transports.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{commands, is_ready, passed_over, project, refused, run, state, trust};
use crate::world::{World, eventually};

/// Where `scripts/test` puts it: beside the programs that are built.
fn server(test: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let places = exe.ancestors().map(|place| place.join("mcp-peers/node_modules/@modelcontextprotocol"));
    let found = places.map(|place| place.join("server-everything/dist/index.js")).find(|file| file.exists());
    let has_node = Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok();
    if found.is_none() || !has_node {
        passed_over("node, and server-everything from npm (scripts/test installs it)", test);
        return None;
    }
    found
}

/// What is called is the same whatever carries it.
fn works(world: &World, session: &str) -> Result<()> {
    is_ready(world, session, "everything:echo")?;
    ensure!(run(world, session, &["everything:echo", "message=hi there"])? == "Echo: hi there\n");
    ensure!(run(world, session, &["everything:echo", "hi"])? == "Echo: hi\n");
    let sum = run(world, session, &["mcp__everything__get-sum", "a=2", "b=40"])?;
    ensure!(sum.contains("42"), "{sum}");
    let (said, status) = refused(world, session, &["everything:get-sum", "a=x", "b=1"])?;
    ensure!(status == 1 && said.contains("a is a number, not \"x\"; it takes a=NUMBER b=NUMBER"), "{said}");
    let image = run(world, session, &["everything:get-tiny-image"])?;
    ensure!(image.contains("[image image/png, "), "{image}");
    let prompt = run(world, session, &["everything:args-prompt", "city=Paris", "state=TX"])?;
    ensure!(prompt == "What's weather in Paris, TX?\n", "{prompt}");
    let (said, _) = refused(world, session, &["everything:args-prompt"])?;
    ensure!(said.contains("city is missing"), "{said}");
    let long = world.run(&[
        "run",
        "--session",
        session,
        "everything:trigger-long-running-operation",
        "duration=1",
        "steps=2",
    ])?;
    let progress = String::from_utf8_lossy(&long.stderr).into_owned();
    ensure!(long.status.success() && progress.contains("1/2") && progress.contains("2/2"), "{progress}");
    let all = commands(world, session)?;
    let echo = all.iter().find(|entry| entry["qualified_name"] == "everything:echo").context("it is listed")?;
    ensure!(echo["kind"] == "mcp_tool" && echo["source"] == "everything" && echo["trust"] == "trusted", "{echo}");
    let prompt =
        all.iter().find(|entry| entry["qualified_name"] == "everything:simple-prompt").context("it is listed")?;
    ensure!(prompt["kind"] == "mcp_prompt", "{prompt}");
    Ok(())
}

#[test]
fn the_reference_server_is_listed_called_and_its_prompts_rendered_over_stdio() -> Result<()> {
    let Some(server) = server("the reference server over stdio") else { return Ok(()) };
    let world = World::new()?;
    let described = json!({"everything": {"command": "node", "args": [server, "stdio"], "env": {"GIVEN": "${TOKEN}"}}});
    let (_, session) = project(&world, &described)?;
    trust(&world, &session, "mcp:everything")?;
    works(&world, &session)?;
    let environment = run(&world, &session, &["everything:get-env"])?;
    ensure!(environment.contains("\"GIVEN\": \"from-my-shell\"") && !environment.contains("SECRET"), "{environment}");
    Ok(())
}

/// Ends the server with the test.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_reference_server_does_the_same_over_http_and_is_seen_to_go() -> Result<()> {
    let Some(server) = server("the reference server over HTTP") else { return Ok(()) };
    let world = World::new()?;
    // A port that is free now; nobody else is likely to take it within a second.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("node");
    command.arg(server).arg("streamableHttp").env("PORT", port.to_string()).stdout(Stdio::null());
    let mut peer = Peer(command.stderr(Stdio::piped()).spawn()?);
    let mut said = BufReader::new(peer.0.stderr.take().context("it says something")?);
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        ensure!(said.read_line(&mut line)? > 0, "it did not come up");
    }
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let url = format!("http://127.0.0.1:{port}/mcp");
    let (_, session) = project(&world, &json!({"everything": {"type": "http", "url": url}}))?;
    let shown = trust(&world, &session, "mcp:everything")?;
    ensure!(shown.contains(&format!("talks to: {url}")), "{shown}");
    works(&world, &session)?;
    drop(peer);
    let (said, _) = refused(&world, &session, &["everything:echo", "x"])?;
    ensure!(said.contains("unavailable"), "{said}");
    eventually("it is seen to be gone", || {
        Ok(state(&world, &session, "mcp:everything")?.filter(|(state, _)| state == "unavailable").map(|_| ()))
    })
}

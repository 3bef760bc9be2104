//! What limits have removed is found no more. That it goes, and that it is no gap, is in `daemon_faults/record_limits.rs`.

use anyhow::{Result, ensure};

use crate::world::{World, eventually};

/// A world whose daemon has these settings.
fn world(daemon: &str) -> Result<World> {
    let world = World::new()?;
    std::fs::create_dir_all(world.home().join("config"))?;
    std::fs::write(world.home().join("config/config.toml"), format!("[daemon]\n{daemon}\n"))?;
    Ok(world)
}

/// Prints a word, then so many MiB that no compression makes smaller, then another word.
fn talk(first: &str, mib: u32, last: &str) -> String {
    format!("stty -opost; echo {first}; head -c {}m /dev/urandom | base64; echo {last}", mib * 3 / 4)
}

fn found(world: &World, text: &str) -> Result<usize> {
    let output = world.run(&["search", "--json", text])?;
    Ok(serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout)?.len())
}

#[test]
fn what_a_running_session_lost_to_its_limit_is_found_no_more() -> Result<()> {
    let world = world("session_bytes_max = \"4 MiB\"")?;
    let id = world.session(&format!("{}; exec sleep 1000", talk("the-first-word", 12, "the-last-word")))?;
    eventually("all of it is recorded", || Ok((found(&world, "the-last-word")? > 0).then_some(())))?;
    eventually("the index has let it go", || Ok((found(&world, "the-first-word")? == 0).then_some(())))?;
    let row = world.listed(&id)?;
    ensure!(row["output_bytes"].as_u64() > Some(10 << 20), "what was printed is still counted: {row}");
    ensure!(world.output(&id)?.ends_with(b"the-last-word\n"));
    Ok(())
}

#[test]
fn ended_sessions_that_went_for_the_total_are_found_no_more() -> Result<()> {
    let world = world("total_bytes_max = \"8 MiB\"")?;
    let running = world.session("echo it-runs; exec sleep 1000")?;
    let mut ended = Vec::new();
    for n in 0..4 {
        let id = world.session(&talk(&format!("word-of-{n}"), 4, "end"))?;
        world.ended(&id)?;
        ended.push(id);
    }
    eventually("the index has let it go", || Ok((found(&world, "word-of-0")? == 0).then_some(())))?;
    let gone = world.run(&["output", &ended[0]])?;
    ensure!(gone.status.code() == Some(1) && !gone.stderr.is_empty(), "{gone:?}");
    ensure!(found(&world, "word-of-3")? > 0 && found(&world, "it-runs")? > 0);
    ensure!(world.listed(&running)?["state"] == "running");
    Ok(())
}

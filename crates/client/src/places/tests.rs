use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn from(pairs: &[(&str, &str)]) -> Result<Places, PlaceError> {
    Places::from_lookup(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into()), 1234)
}

#[test]
fn shellkeep_home_holds_everything_and_nothing_falls_back_outside() -> anyhow::Result<()> {
    let places = from(&[("SHELLKEEP_HOME", "/h"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/u")])?;
    assert_eq!(places.run, Path::new("/h/run"));
    assert_eq!(places.state, Path::new("/h/state"));
    assert_eq!(places.keeper_directories(), [PathBuf::from("/h/run/k")]);
    assert_eq!(places.daemon_socket(), Path::new("/h/run/daemon.sock"));
    Ok(())
}

#[test]
fn without_a_runtime_directory_sockets_lie_in_tmp_by_user() -> anyhow::Result<()> {
    let places = from(&[("HOME", "/u"), ("XDG_RUNTIME_DIR", ""), ("XDG_STATE_HOME", "relative")])?;
    assert_eq!(places.run, Path::new("/tmp/shellkeep-1234"));
    assert_eq!(places.keeper_directories().len(), 1);
    assert_eq!(places.state, Path::new("/u/.local/state/shellkeep"));
    assert!(matches!(from(&[]), Err(PlaceError::NoHome)));
    Ok(())
}

#[test]
fn commands_look_for_sockets_in_both_runtime_places() -> anyhow::Result<()> {
    let places = from(&[("HOME", "/u"), ("XDG_RUNTIME_DIR", "/r"), ("SHELLKEEP_SOCKET", "/s")])?;
    let expected = ["/r/shellkeep/k", "/tmp/shellkeep-1234/k"].map(PathBuf::from);
    assert_eq!(places.keeper_directories(), expected);
    assert_eq!(places.daemon_socket(), Path::new("/s"));
    Ok(())
}

#[test]
fn a_directory_that_is_not_ours_alone_is_refused_with_path_and_mode() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let open = temp.path().join("open");
    std::fs::create_dir(&open)?;
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755))?;
    let error = prepare(&open).expect_err("0755 must be refused");
    assert!(error.to_string().contains("0755") && error.hint().contains("chmod 700"), "{error}");

    let link = temp.path().join("link");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o700))?;
    symlink(&open, &link)?;
    assert!(matches!(prepare(&link), Err(PlaceError::Symlink { .. })));

    let file = temp.path().join("file");
    std::fs::write(&file, "")?;
    assert!(matches!(prepare(&file), Err(PlaceError::NotADirectory { .. })));
    Ok(())
}

#[test]
fn missing_directories_are_made_private() -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let deep = temp.path().join("a/b/state");
    prepare(&deep)?;
    for path in [&deep, &temp.path().join("a/b"), &temp.path().join("a")] {
        assert_eq!(path.metadata()?.permissions().mode() & 0o777, 0o700);
    }
    Ok(())
}
